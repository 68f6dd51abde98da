"""The analytics services that the measurements start."""

from pathlib import Path

from grpc import aio

from bench.experiments.analytics.users import service_with
from bench.systems.programs import running
from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc


async def test_a_service_with_many_users_is_the_real_one(tmp_path: Path) -> None:
    service = await service_with(tmp_path, 10)
    async with (
        running(service),
        aio.insecure_channel(f"127.0.0.1:{service.ports['gRPC']}") as channel,
    ):
        request = pb.GetAnalyticsRequest(user_id="user-00000003")
        answer = await pb_grpc.AnalyticsServiceStub(channel).GetAnalytics(request)
    assert answer.analytics.message_count == 4
