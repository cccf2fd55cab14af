"""The public API keeps every field that it once had: name, number and type.

tests/golden/api_descriptor.txt lists them. A new field has to be added to it, so that its removal is noticed later:
  /usr/bin/python3 tests/e2e/test_api_descriptor.py > tests/golden/api_descriptor.txt
"""

from google.protobuf import descriptor_pb2
from phi_client import ROOT, descriptor_set

STORED = ROOT / "tests/golden/api_descriptor.txt"
PUBLIC = ("phi/v1/generation.proto", "google/rpc/error_details.proto", "google/rpc/status.proto", "grpc/health/v1/health.proto")
Field = descriptor_pb2.FieldDescriptorProto


def field_lines(prefix, message):
    for field in message.field:
        label = Field.Label.Name(field.label).removeprefix("LABEL_").lower()
        if field.proto3_optional:
            label = "explicit"  # has presence, as `optional` of proto3 says
        kind = field.type_name or Field.Type.Name(field.type).removeprefix("TYPE_").lower()
        in_oneof = field.HasField("oneof_index") and not field.proto3_optional
        oneof = f" in {message.oneof_decl[field.oneof_index].name}" if in_oneof else ""
        yield f"{prefix}.{message.name}.{field.name} = {field.number} {label} {kind}{oneof}"
    for reserved in message.reserved_range:
        yield f"{prefix}.{message.name} reserves {reserved.start} to {reserved.end - 1}"
    for nested in message.nested_type:
        yield from field_lines(f"{prefix}.{message.name}", nested)
    for enum in message.enum_type:
        yield from enum_lines(f"{prefix}.{message.name}", enum)


def enum_lines(prefix, enum):
    for value in enum.value:
        yield f"{prefix}.{enum.name}.{value.name} = {value.number}"


def api_lines():
    for file in descriptor_set(PUBLIC).file:
        if file.name not in PUBLIC:
            continue
        for message in file.message_type:
            yield from field_lines(file.package, message)
        for enum in file.enum_type:
            yield from enum_lines(file.package, enum)
        for service in file.service:
            for method in service.method:
                stream = "stream " if method.server_streaming else ""
                yield f"{file.package}.{service.name}/{method.name} {method.input_type} -> {stream}{method.output_type}"


def test_nothing_public_was_removed_renumbered_or_retyped():
    stored = STORED.read_text().splitlines()
    now = set(api_lines())
    assert [line for line in stored if line not in now] == []


def test_what_is_new_is_recorded():
    stored = set(STORED.read_text().splitlines())
    assert [line for line in api_lines() if line not in stored] == [], f"add it to {STORED.name}: see this file's head"


def test_the_listing_sees_a_changed_field():
    lines = list(api_lines())
    assert "phi.v1.GenerationParameters.temperature = 3 explicit float" in lines
    assert "phi.v1.GenerateRequest.text = 1 optional string in prompt" in lines
    assert "phi.v1.Finish.reason = 1 optional .phi.v1.FinishReason" in lines
    assert "phi.v1.TextGeneration/GenerateStream .phi.v1.GenerateRequest -> stream .phi.v1.GenerateStreamResponse" in lines


if __name__ == "__main__":
    print("\n".join(api_lines()))
