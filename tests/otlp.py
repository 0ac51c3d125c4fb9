"""Takes traces by OTLP over HTTP: says its port, then a line of JSON for each span that it was sent."""

import http.server
import json

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


def plain(value):
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = ExportTraceServiceRequest()
        request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
        for resource in request.resource_spans:
            of = {pair.key: plain(pair.value) for pair in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                told = {
                    "path": self.path,
                    "service": of.get("service.name"),
                    "name": span.name,
                    "kind": span.kind,
                    "failed": span.status.code == 2,
                    "took_us": (span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
                    "attributes": {pair.key: plain(pair.value) for pair in span.attributes},
                }
                print(json.dumps(told), flush=True)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
server.serve_forever()
