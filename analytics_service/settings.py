"""The settings of the analytics service."""

from pydantic import Field

from daca_shared.settings import MetricsPort, Port, ServiceSettings


class AnalyticsSettings(ServiceSettings):
    database_file = "analytics.db"

    grpc_port: Port = Field(8001, alias="ANALYTICS_GRPC_PORT")
    """The gRPC port, which is the Dapr app port; 0 takes a free one."""
    metrics_port: MetricsPort = Field(9465, alias="ANALYTICS_METRICS_PORT")
    """The port of analytics' metrics; 0 takes a free one, `off` turns them off."""
    seed_demo_users: bool = Field(False, alias="ANALYTICS_SEED_DEMO_USERS")
    """Whether a new store starts with alice = 5 and bob = 3."""
