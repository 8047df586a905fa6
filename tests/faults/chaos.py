"""Random systems, random faults at random moments on several hosts; then the promise is checked on each.

    make chaos N=200 SEED=7

A round is drawn from the seed, the host and the round's number alone, so the same seed draws the same rounds again.
Nothing is reset between rounds: each begins with what the one before left.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.lab import Lab, faults
from tests.containers import nixos_switch
from tests.containers.driver import Stage, wait_until
from tests.faults.controller import ROOTS_OF_THE_DEAD, interrupt_once, kill_keeper_again_and_again
from tests.faults.disks import full, own_disk, read_only
from tests.faults.logins import HIDE_KEYS, restore_keys
from tests.faults.network import reboot
from tests.faults.people import squat
from tests.faults.scene import Scene, build, reset, standing, system
from tests.faults.table import strike_nothing

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTS = ("alpha", "beta", "gamma")
SLOW_SWITCH = "activationScript = ''[ \"$NIXOS_ACTION\" != test ] || sleep 2'';"
SLOW_COMMIT = 'beforeBootLoader = "sleep 2";'
GOOD = {"plain": "", "slow": SLOW_SWITCH, "slow commit": SLOW_COMMIT, "exit 4": "switchExit = 4;"}
BAD = {
    "unit fails": 'services.bad.exec = "${busybox} false";',
    "unit fails later": "services.late.exec = \"${busybox} sh -c 'sleep 0.4; exit 1'\";",
    "activation fails": 'activationScript = "exit 1";',
    "activation hangs": 'activationScript = "sleep 600";',
    "boot loader fails": 'bootLoaderScript = "exit 1";',
    "boot loader lies": 'bootLoaderScript = "exit 0";',
    "check fails": "",
    "keys vanish": HIDE_KEYS,
}


def kill(scene: Scene) -> None:
    scene.process.kill()


def interrupt_again(scene: Scene) -> None:
    interrupt_once(scene)
    time.sleep(0.5)
    scene.process.send_signal(signal.SIGINT)  # it may have ended by then


def stop_for_a_while(scene: Scene) -> None:
    scene.process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    scene.process.send_signal(signal.SIGCONT)


def cut_for_a_while(scene: Scene) -> None:
    faults.cut(scene.host)
    time.sleep(5)


def refuse_new(scene: Scene) -> None:
    faults.cut(scene.host, new_only=True)
    time.sleep(5)


def cut_power(scene: Scene) -> None:
    scene.host.power_off()


def freeze(scene: Scene) -> None:
    faults.freeze(scene.host)
    time.sleep(5)


STRIKES: dict[str, Callable[[Scene], None]] = {
    "nothing": strike_nothing,
    "controller killed": kill,
    "controller stopped": stop_for_a_while,
    "Ctrl-C": interrupt_once,
    "Ctrl-C twice": interrupt_again,
    "keeper killed": kill_keeper_again_and_again,
    "network cut": cut_for_a_while,
    "new connections refused": refuse_new,
    "power cut": cut_power,
    "host rebooted": reboot,
    "host frozen": freeze,
    "lock squatted": squat(8),
    "/nix full": full("/nix"),
    "/boot full": full("/boot"),
    "/boot read-only": read_only("/boot"),
}
TIDY = ("nothing", "Ctrl-C", "Ctrl-C twice", "keeper killed", "lock squatted")
"""Strikes after which the run itself takes its roots away again: it lives, and reaches the host."""


@dataclass(frozen=True)
class Round:
    """What is drawn."""

    number: int
    variant: str
    strike: str
    after: float

    def __str__(self) -> str:
        return f"round {self.number}: {self.variant}; {self.strike} after {self.after:.2f} s"


def draw(seed: int, host: str, number: int) -> Round:
    """The round of this seed, host and number: always the same."""
    chance = random.Random(f"{seed}/{host}/{number}")
    variant = chance.choice([*GOOD, *BAD])
    return Round(number, variant, chance.choice(list(STRIKES)), chance.uniform(0.3, 9.0))


def play(drawn: Round, scene: Scene) -> str:
    """The round has been played and the promise holds. Returns how it ended."""
    status = 503 if drawn.variant == "check fails" else 200
    more = GOOD.get(drawn.variant) or BAD.get(drawn.variant, "")
    scene.new = scene.build(system(scene.version(), status=status, more=more))
    scene.prepare(settle="1s")
    run = scene.deploy()
    time.sleep(drawn.after)
    try:
        if run.process.poll() is None:
            STRIKES[drawn.strike](scene)
    finally:
        faults.restore(scene.host)
    run.process.wait(240)
    restore_keys(scene)
    told = [event for event in run.events if event["event"] == "run_finished"]
    outcome = run.outcomes.get(scene.name, "none") if told else "silent"
    failure = (
        run.hosts.get(scene.name, {}).get("error") if told else None
    )  # no host yet, if it ended before it read any
    assert (failure or {}).get("kind") not in ("replaced", "bug"), run
    scene.stage.document("status", code=None)
    scene.is_settled()
    status_now = status_of(scene)
    stands = scene.stands_on()
    promise(drawn, scene, outcome, stands)
    said = (status_now["running"], status_now["profile"], status_now["boot_default"])
    assert said == standing(scene.host), f"fleet status says {said}"
    mine = run.events[0]["run"] if run.events and drawn.strike in TIDY else ""
    mine = mine or "none"  # it ended before it had begun: what earlier runs left as they died is not its own
    left = [what for what in scene.left_behind() if what.startswith(mine) or not re.fullmatch(ROOTS_OF_THE_DEAD, what)]
    assert not left, f"left behind: {left}"
    return f"{outcome}, {stands[0]}"


def status_of(scene: Scene) -> dict[str, Any]:
    """What `fleet status` says of the host once it reaches it: an sshd that has refused keys may let nobody in."""
    said: list[dict[str, Any]] = []

    def reaches() -> bool:
        said[:] = scene.stage.document("status", code=None)["hosts"]
        return bool(said[0]["reachable"])

    wait_until(reaches, lambda: f"a host that answers, and not {said}")
    return said[0]


def promise(drawn: Round, scene: Scene, outcome: str, stands: tuple[str, str, str]) -> None:
    """The host runs, keeps and boots the new system, and that was good; or all three are the old."""
    assert stands in (("new",) * 3, ("old",) * 3), stands
    assert stands[0] == "old" or drawn.variant in GOOD, f"a bad system is kept: {drawn.variant}"
    expected = {"kept": "new", "rolled_back": "old", "skipped": "old", "failed": "old"}.get(outcome, stands[0])
    assert stands[0] == expected, f"told {outcome}, and runs {stands[0]}"


def host_rounds(lab: Lab, folder: Path, name: str, seed: int, rounds: range) -> int:
    """How many of the host's rounds broke the promise; the host was made anew after each that did."""
    folder = folder / name
    folder.mkdir()
    broken = 0
    with closing(Stage(lab, folder, folder)) as stage:
        base = build(lab.folder.path, folder, name, system(f"{name}.{seed}.0"))
        scene = Scene(stage, name, base)
        scene.bring(base)
        reset(scene.host, base)
        for disk in ("/nix", "/boot"):
            own_disk(disk)(scene)
        for number in rounds:
            drawn = draw(seed, name, number)
            try:
                ended = play(drawn, scene)
                scene.old = standing(scene.host)[0]
            except Exception:
                broken += 1
                ended = f"BROKEN\n{traceback.format_exc()}"
                stage.close()
                scene.bring(base)
                reset(scene.host, base)
                scene.old = base
            sys.stdout.write(f"{name} {drawn}: {ended}\n")
            sys.stdout.flush()
    return broken


def main() -> None:
    """Exits 1 when the promise was broken, and says how to see it again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    with tempfile.TemporaryDirectory(prefix="fleet-chaos-") as temporary:
        folder = Path(temporary)
        lab = Lab.find(folder / "lab")
        try:
            nixos_switch.adopt(Lab.up(lab.folder.path, HOSTS))
            with ThreadPoolExecutor(len(HOSTS)) as pool:
                games = [
                    pool.submit(host_rounds, lab, folder, name, options.seed, range(index, options.rounds, len(HOSTS)))
                    for index, name in enumerate(HOSTS)
                ]
                broken = sum(game.result() for game in games)
        finally:
            lab.down()
    sys.stdout.write(f"{options.rounds} rounds, seed {options.seed}: {broken} broke the promise\n")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
