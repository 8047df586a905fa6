"""What the lab says to a VM and about it, without one."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import ConfigError
from fleet.lab import VmHost, agent, vm, vm_image
from fleet.lab.folder import Folder
from fleet.machine import Output
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Reply = Callable[[str, dict[str, Any]], list[dict[str, Any]]]


@contextmanager
def guest(place: Path, reply: Reply) -> Iterator[list[str]]:
    """An agent whose answers `reply` makes; gives the commands that it was asked, with their arguments."""
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place / "agent.sock"))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, connection.makefile("rwb") as stream:
                    for line in stream:
                        order = json.loads(line)
                        asked.append(f"{order['execute']} {order['arguments']}")
                        for answer in reply(order["execute"], order["arguments"]):
                            stream.write(json.dumps(answer).encode() + b"\n")
                        stream.flush()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_command_is_asked_about_until_it_has_ended(tmp_path: Path) -> None:
    states = [
        {"exited": False},
        {"exited": True, "exitcode": 3, "out-data": base64.b64encode(b"said\r\n").decode()},
    ]

    def reply(command: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        match command:
            case "guest-sync":
                return [
                    {"return": {"pid": 1}},
                    {"return": 5},
                    {"return": arguments["id"]},
                ]  # two for somebody before us
            case "guest-exec":
                return [{"return": {"pid": 77}}]
        return [{"return": states.pop(0)}]

    with guest(tmp_path, reply) as asked:
        assert agent.run(tmp_path, ["cat", "a b"]) == Output(status=3, stdout="said\n", stderr="")
    assert [line for line in asked if "sync" not in line] == [
        "guest-exec {'path': '/usr/bin/env', 'arg': ['cat', 'a b'], 'capture-output': True}",
        "guest-exec-status {'pid': 77}",
        "guest-exec-status {'pid': 77}",
    ]


def test_an_agent_that_is_not_there_or_answers_with_an_error_is_silent(tmp_path: Path) -> None:
    with pytest.raises(agent.AgentSilentError):
        agent.run(tmp_path, ["true"])

    def reply(command: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"return": arguments["id"]} if command == "guest-sync" else {"error": {"class": "GenericError"}}]

    with guest(tmp_path, reply), pytest.raises(agent.AgentSilentError):
        agent.run(tmp_path, ["true"])


def test_a_process_that_got_the_number_of_a_vm_is_not_the_vm(tmp_path: Path) -> None:
    host = VmHost(HostName("vm"), tmp_path)
    assert host.process is None
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    assert host.process is None
    argv = ["sh", "-c", "echo; read line", "sh", str(tmp_path / "pid")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stand_in:
        assert stand_in.stdout is not None
        stand_in.stdout.readline()  # before that, its command line may not be there yet
        (tmp_path / "pid").write_text(f"{stand_in.pid}\n")
        assert host.process == stand_in.pid
        host.power_off()
        stand_in.wait()
        assert host.process is None


def test_what_a_vm_needs_and_is_not_there_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="not installed here: qemu-system-x86, ") as caught:
        vm_image.ensure(print)
    assert "leave out --vm" in caught.value.hint


def test_kvm_is_not_tried_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "KVM", tmp_path / "kvm")
    assert not vm.kvm_works(tmp_path / "kernel")


def test_vms_and_their_kernel_are_told_to_the_flake(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with folder.alone():
        folder.write_vms(["a", "b"], '{ version = "1"; hash = "x"; }')
    text = (tmp_path / "vms.nix").read_text()
    assert text == '{\n  hosts = [ "a" "b" ];\n  linux = { version = "1"; hash = "x"; };\n}\n'
