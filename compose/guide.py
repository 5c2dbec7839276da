"""What to try in a lab that `docker compose up` brought up: `python -m compose.guide SITE.toml` prints it, and serves it.

The page is plain text, at port 8080 of the tester, until SIGTERM.
"""

from __future__ import annotations

import http.server
import signal
import sys
from pathlib import Path

from lbconfig.site import Site
from lbconfig.site_file import SiteError, load_site

from .layout import TESTER

PORT = 8080
_PAGE = """\
{name}: four virtual services, two balancers, two nodes, in containers.

    {services}

The lab's network is of its own: neither this machine nor its network can be reached from it, nor the other way round. So
everything is done from its hosts. In the folder of compose.yaml:

Talk to it, as a modality does
    docker compose exec tester /usr/bin/echoscu -v -aec {ae_title} {dicom}
    docker compose exec tester /usr/bin/findscu -v -W -aec {ae_title} -k 0010,0010 -k 0040,0100 {dmwl}

See who has the floating addresses, and what the active balancer knows
    docker compose exec {first} ip -brief address show eth0
    docker compose exec {first} sh -c 'echo "show stat" | socat - /lab/balancers/{first}/haproxy.sock'
    docker compose exec {first} sh -c 'echo "show table DICOM" | socat - /lab/balancers/{first}/haproxy.sock'

Kill it: the other one takes over within a second, and keeps what it took
    docker compose kill {first}
    docker compose exec {second} ip -brief address show eth0
    docker compose start {first}

Let a node hang, and bring it back: who was there is sent to the other one
    docker compose pause {node}
    docker compose exec {second} sh -c 'echo "show servers state" | socat - /lab/balancers/{second}/haproxy.sock'
    docker compose unpause {node}

Read what happened: out/compose/balancers/*/haproxy.log and keepalived.log, out/compose/nodes/*/logs

End it
    docker compose down

To have all of this judged, with a report: preflight accept --lab compose --site lbconfig/sites/brief.toml
This page: http://{tester}:{port}/ inside of the lab.
"""


def page(site: Site) -> str:
    """Return what to try at a site with a pair, in plain text."""
    services = "\n    ".join(f"{vip.name:<8} {vip.address}:{vip.port}" for vip in site.vip)
    dicom, dmwl = site.vip_of("dicom"), site.vip_of("dmwl")
    first, second = (unit.name for unit in sorted(site.balancer.unit, key=lambda unit: -unit.priority))
    return _PAGE.format(
        name=site.name, services=services, ae_title=site.dicom.ae_title, dicom=f"{dicom.address} {dicom.port}",
        dmwl=f"{dmwl.address} {dmwl.port}", first=first, second=second, node=site.node[0].name,
        tester=f"{dicom.address.rpartition('.')[0]}.{TESTER}", port=PORT,
    )  # fmt: skip


def server(text: str, address: str, port: int) -> http.server.HTTPServer:
    """Return a server that answers every GET with the page."""
    content = text.encode()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(http.HTTPStatus.OK)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    return http.server.ThreadingHTTPServer((address, port), Page)


def main(arguments: list[str]) -> None:
    """Print the page, and serve it until SIGTERM."""
    if len(arguments) != 2:
        sys.exit(f"usage: python -m compose.guide SITE.toml, found {len(arguments) - 1} arguments")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # process 1 has no default of its own for it
    try:
        text = page(load_site(Path(arguments[1])))
    except SiteError as error:
        sys.exit(str(error))
    print(text, flush=True)  # noqa: T201  this is a command
    try:
        with server(text, "", PORT) as serving:
            serving.serve_forever()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main(sys.argv)
