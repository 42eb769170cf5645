"""Uses a pool's gRPC as any program does: with code made from proto/, and a certificate.

    grpc_client.py HOST:PORT CERTIFICATES STUBS        # prints the names of the nodes
"""

import sys
from pathlib import Path

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

PATIENCE_S = 20
SERVICES = [
    "filmloom.admin.v1.Admin",
    "filmloom.cluster.v1.Cluster",
    "filmloom.control.v1.Control",
    "filmloom.control.v1.Joining",
    "grpc.health.v1.Health",
]


def main(address, certificates, stubs):
    sys.path.insert(0, stubs)
    from filmloom.cluster.v1 import cluster_pb2, cluster_pb2_grpc

    def list_nodes(channel):
        stub = cluster_pb2_grpc.ClusterStub(channel)
        return stub.ListNodes(cluster_pb2.ListNodesRequest(), timeout=PATIENCE_S)

    read = lambda name: Path(certificates, name).read_bytes()
    member = connect(address, read("ca.crt"), read("client.key"), read("client.crt"))
    stranger = connect(address, read("ca.crt"))
    for call in [list_nodes, check_health, list_services]:
        call(member)
        refuse(call, stranger)
    try_to_trust_another(address, list_nodes)
    reflect(member)
    for node in list_nodes(member).nodes:
        assert node.state == cluster_pb2.Node.STATE_HERE and 0 < node.memory_bytes, node
        print(node.name)


def connect(address, authority, key=None, certificate=None):
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    options = [("grpc.ssl_target_name_override", "filmloom.internal")]
    return grpc.secure_channel(address, credentials, options)


def check_health(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ["", "filmloom.control.v1.Control"]:
        reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING, (service, reply)


def list_services(channel):
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    missing = set(SERVICES) - set(services)
    assert not missing, services


def reflect(channel):
    """What the server says of its messages is what the code was made from."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    node = pool.FindMessageTypeByName("filmloom.cluster.v1.Node")
    assert "incarnation" in node.fields_by_name, node


def refuse(call, channel):
    """No certificate, no answer; and it says so."""
    try:
        call(channel)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
        assert "certificate" in error.details(), error
        return
    raise AssertionError("a stranger was let in")


def try_to_trust_another(address, call):
    """The system's authorities did not issue the server's certificate."""
    try:
        call(connect(address, None))
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        return
    raise AssertionError("a certificate of an unknown authority was trusted")


if __name__ == "__main__":
    main(*sys.argv[1:])
