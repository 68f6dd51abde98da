"""The settings of the analytics service."""

from pathlib import Path

from pydantic import Field, SecretStr

from daca_shared.settings import MetricsPort, ServiceSettings


class AnalyticsSettings(ServiceSettings):
    """See the README's table."""

    grpc_port: int = Field(8001, ge=0, le=65535, validation_alias="ANALYTICS_GRPC_PORT")
    """The gRPC port, which is the Dapr app port; 0 takes a free one."""
    metrics_port: MetricsPort = Field(9465, validation_alias="ANALYTICS_METRICS_PORT")
    """Where the metrics can be read; 0 takes a free port, `off` none."""
    seed_demo_users: bool = Field(False, validation_alias="ANALYTICS_SEED_DEMO_USERS")
    """Whether a fresh store starts with alice = 5 and bob = 3."""

    @property
    def database(self) -> Path | SecretStr:
        """Where the counts are: a SQLite file, or the URL of a PostgreSQL."""
        return self.database_url or self.data_dir / "analytics.db"
