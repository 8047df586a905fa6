"""What tools may be asked with. Agents read the descriptions, so they are short: all are sent with each list."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

_Selector = Annotated[str, Field(min_length=1, max_length=255)]
Hosts = Annotated[
    list[_Selector],
    Field(min_length=1, max_length=100, description="Names, globs, @tags, kind:KIND, !NAME to exclude; * is all"),
]
SomeHosts = Annotated[list[_Selector], Field(max_length=100, description="Only these hosts of the plan; default: all")]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,255}$", description="One host")]
MaybeHost = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,255}$", description="Step by step, of this host alone")]
After = Annotated[str, Field(max_length=255, description="`next` of the page before")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{6,64}$", description="Digest of a plan, or its beginning")]
RunName = Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{1,64}$", description="Id that a request or runs has given")]
Intent = Annotated[str, Field(min_length=1, max_length=500, description="Why: hosts and approvers are told")]
Wait = Annotated[int, Field(ge=0, le=50, description="Seconds to wait for the end")]
Newest = Annotated[int, Field(ge=1, le=100, description="The newest so many of each host")]
Lines = Annotated[int, Field(ge=1, le=200, description="The last so many")]
Unit = Annotated[str, Field(min_length=1, max_length=255, description="systemd unit; * and ? are wildcards")]
Since = Annotated[str, Field(max_length=40, description="10m, 2h, today, or a time of the host")]
Goal = Annotated[Literal["switch", "test"], Field(description="test: kept until the next boot only")]
Reboot = Annotated[Literal["never", "if-needed", "always"], Field(description="Go to the new system by a reboot")]
Watch = Annotated[str, Field(pattern=r"^[0-9a-z]{1,20}$", description="Prove at least so long: 10m")]
Revision = Annotated[
    str,
    Field(
        pattern=r"^([0-9A-Za-z][0-9A-Za-z._/-]{0,199})?$",
        description="Branch, tag or commit of the repository; default: what is checked out",
    ),
]
KeepGoing = Annotated[bool, Field(description="Leave out hosts that do not evaluate or build")]
BackTo = Annotated[
    str,
    Field(
        pattern=r"^([0-9]{1,9}|/nix/store/[0-9A-Za-z+._?=-]{1,255})?$",
        description="Generation or store path; default: what ran before",
    ),
]
