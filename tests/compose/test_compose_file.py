"""compose.yaml, held against the site that it is to be."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from compose.images.recipes import IMAGES
from compose.keeper_client import CHECKOUT
from compose.layout import NODE_UID, ROUTER, TESTER, WORKERS
from lbconfig.site import Site
from lbconfig.site_file import load_site

COMPOSE_FILE = CHECKOUT / "compose" / "compose.yaml"
TWO_ARM_FILE = CHECKOUT / "compose" / "two-arm.yaml"
Config = dict[str, Any]


def config(*files: Path, **variables: str) -> Config:
    """Return compose.yaml, and files after it, as Compose reads them, with all profiles."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFLIGHT_")} | variables
    named = [word for file in (COMPOSE_FILE, *files) for word in ("--file", str(file))]
    done = subprocess.run(
        ["docker", "compose", *named, "--profile", "*", "config", "--format", "json"],
        capture_output=True, text=True, check=False, env=environment, timeout=60,
    )  # fmt: skip
    if "unknown" in done.stderr and "compose" in done.stderr:
        pytest.skip("Compose v2 is not installed")
    assert (done.returncode, done.stderr) == (0, "")  # clean: not even a warning
    read: Config = json.loads(done.stdout)
    return read


@pytest.fixture(scope="module")
def composed() -> Config:
    return config()


@pytest.fixture(scope="module")
def brief() -> Site:
    return load_site(CHECKOUT / "lbconfig" / "sites" / "brief.toml")


def addresses(read: Config, network_name: str = "lab") -> dict[str, str]:
    """Return the fixed address of each service that has one in a network."""
    found = {}
    for name, service in read["services"].items():
        network = (service.get("networks") or {}).get(network_name) or {}
        if "ipv4_address" in network:
            found[name] = network["ipv4_address"]
    return found


def test_units_and_nodes_have_the_names_and_addresses_of_the_brief(composed: Config, brief: Site) -> None:
    of_site = {unit.name: unit.address for unit in brief.balancer.unit} | {node.name: node.address for node in brief.node}
    found = addresses(composed)
    assert {name: found.get(name) for name in of_site} == of_site
    assert found["tester"] == f"192.168.110.{TESTER}"


def test_every_unit_and_node_starts_from_its_own_part_of_the_run_folder(composed: Config, brief: Site) -> None:
    services = composed["services"]
    for unit in brief.balancer.unit:
        assert services[unit.name]["command"][-1] == f"/lab/balancers/{unit.name}"
        targets = [mount["target"] for mount in services[unit.name]["volumes"]]
        assert targets == ["/preflight", f"/lab/balancers/{unit.name}"]
    for node in brief.node:
        assert services[node.name]["command"][-1] == f"/lab/nodes/{node.name}/node.json"


def test_no_host_takes_an_address_that_the_site_gives_to_something_else(composed: Config, brief: Site) -> None:
    fixed = list(addresses(composed).values())
    assert len(set(fixed)) == len(fixed)
    assert not set(fixed) & {vip.address for vip in brief.vip}
    clients = ipaddress.IPv4Network(brief.clients.network)
    assert not [address for address in fixed if ipaddress.IPv4Address(address) in clients]


def test_the_network_holds_every_address_of_the_site_and_leaves_the_layouts_places(composed: Config, brief: Site) -> None:
    (plan,) = composed["networks"]["lab"]["ipam"]["config"]
    network, workers = ipaddress.IPv4Network(plan["subnet"]), ipaddress.IPv4Network(plan["ip_range"])
    for address in [*addresses(composed).values(), *(vip.address for vip in brief.vip)]:
        assert ipaddress.IPv4Address(address) in network
        assert ipaddress.IPv4Address(address) not in workers
    assert [int(address) & 0xFF for address in workers] == list(WORKERS)
    assert plan["gateway"].endswith(f".{ROUTER}")
    assert plan["gateway"] not in addresses(composed).values()


def test_the_host_is_no_part_of_the_network_and_nothing_is_published(composed: Config) -> None:
    options = composed["networks"]["lab"]["driver_opts"]
    assert options["com.docker.network.bridge.inhibit_ipv4"] == "true"
    assert options["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    for service in composed["services"].values():
        assert "ports" not in service
        assert service.get("network_mode") in (None, "none", "service:tester")


def test_the_subnet_moves_every_address() -> None:
    moved = config(PREFLIGHT_SUBNET="10.9.8")
    assert {address.rpartition(".")[0] for address in addresses(moved).values()} == {"10.9.8"}
    (plan,) = moved["networks"]["lab"]["ipam"]["config"]
    assert plan == {"subnet": "10.9.8.0/24", "gateway": "10.9.8.1", "ip_range": "10.9.8.64/27"}


def test_no_container_has_a_credential_or_the_docker_socket(composed: Config) -> None:
    text = json.dumps(composed).lower()
    for word in ("password", "secret", "token", "credential", "docker.sock", "/var/run/docker", "/var/lib/docker"):
        assert word not in text
    allowed = {"PREFLIGHT_LAB", "PREFLIGHT_SUBNET"}
    for service in composed["services"].values():
        assert set(service.get("environment") or {}) <= allowed


def test_no_container_has_more_rights_than_it_needs(composed: Config) -> None:
    for name, service in composed["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "pid", "ipc", "devices"} & set(service), name
        code = next(mount for mount in service["volumes"] if mount["target"] == "/preflight")
        assert code["read_only"] is True, name


def test_nodes_run_without_root_and_without_a_single_right(composed: Config, brief: Site) -> None:
    for node in brief.node:
        service = composed["services"][node.name]
        assert service["user"] == f"{NODE_UID}:{NODE_UID}"
        assert "cap_add" not in service


def test_images_are_never_pulled_and_nothing_restarts_by_itself(composed: Config) -> None:
    known = {f"{image.name}:latest" for image in IMAGES}
    for name, service in composed["services"].items():
        assert service["image"] in known, name
        assert service["pull_policy"] == "never", name
        assert service["restart"] == "no", name


def test_the_images_of_one_state_of_the_checkout_are_asked_for_by_their_tag() -> None:
    tagged = config(PREFLIGHT_IMAGES="0123456789ab")
    assert {service["image"].rpartition(":")[2] for service in tagged["services"].values()} == {"0123456789ab"}


def test_what_is_run_comes_from_the_checkout_that_is_named(tmp_path: Path) -> None:
    elsewhere = config(PREFLIGHT_CHECKOUT=str(tmp_path))
    for service in elsewhere["services"].values():
        assert [mount["source"] for mount in service["volumes"] if mount["target"] == "/preflight"] == [str(tmp_path)]


@pytest.fixture(scope="module")
def two_arms() -> Config:
    return config(TWO_ARM_FILE)


@pytest.fixture(scope="module")
def two_arm_site() -> Site:
    return load_site(CHECKOUT / "lbconfig" / "sites" / "two-arm.toml")


def test_with_two_arms_units_are_in_both_networks_and_nodes_in_their_own_alone(two_arms: Config, two_arm_site: Site) -> None:
    units, nodes = two_arm_site.balancer.unit, two_arm_site.node
    assert addresses(two_arms) == {unit.name: unit.address for unit in units} | {"tester": f"192.168.110.{TESTER}"}
    inner = {unit.name: unit.inner_address for unit in units} | {node.name: node.address for node in nodes}
    assert addresses(two_arms, "nodes") == inner


def test_the_nodes_network_is_no_part_of_the_host_and_its_gateway_is_the_sites(two_arms: Config, two_arm_site: Site) -> None:
    network = two_arms["networks"]["nodes"]
    assert network["driver_opts"] == two_arms["networks"]["lab"]["driver_opts"]
    assert network["ipam"]["config"] == [{"subnet": "192.168.120.0/24", "gateway": two_arm_site.balancer.nodes_gateway}]


def test_everything_else_is_as_with_one_arm(two_arms: Config, composed: Config) -> None:
    def without_networks(read: Config) -> Config:
        return {
            name: {key: service[key] for key in service if key != "networks"} for name, service in read["services"].items()
        }

    assert without_networks(two_arms) == without_networks(composed)
    assert two_arms["networks"]["lab"] == composed["networks"]["lab"]


def test_each_network_moves_by_itself() -> None:
    both = config(TWO_ARM_FILE, PREFLIGHT_SUBNET="10.9.8", PREFLIGHT_NODES_SUBNET="10.9.9")
    assert {address.rpartition(".")[0] for address in addresses(both).values()} == {"10.9.8"}
    assert {address.rpartition(".")[0] for address in addresses(both, "nodes").values()} == {"10.9.9"}
    assert both["networks"]["nodes"]["ipam"]["config"] == [{"subnet": "10.9.9.0/24", "gateway": "10.9.9.1"}]
