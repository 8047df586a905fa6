"""The places in which tools put what they install, and what is declared instead."""

from __future__ import annotations

from dataclasses import dataclass

PACKAGES = "declare {names} in environment.systemPackages or users.users.{user}.packages, and remove {path}"
SHELL = "let a devShell of the project have it, or environment.systemPackages, and remove {path}"
PYTHON = "declare python3.withPackages with {names}, or a devShell of the project, and remove {path}"
NODE = "declare the packages of nodePackages, or a devShell of the project, and remove {path}"


@dataclass(frozen=True)
class Place:
    """A folder whose entries somebody has installed by hand."""

    path: str
    """Below a home, or below / of the host. It may have wildcards."""
    tool: str
    """What has probably put something there."""
    fix: str = PACKAGES
    """With {names}, {path} and {user}."""
    each: bool = False
    """Whether each entry is a thing of its own. Else all of them belong to the tool."""
    kind: str = "toolchain"
    leaves: tuple[str, ...] = ()
    """Entries that say nothing: they are there without any installation."""


USER_UNITS = ".config/systemd/user"
PROFILES = ".local/state/nix/profiles"
_RUSTUP = ("cargo", "cargo-clippy", "cargo-fmt", "cargo-miri", "clippy-driver", "rls", "rust-analyzer", "rust-gdb")
RUSTUP_PROXIES = frozenset((*_RUSTUP, "rust-gdbgui", "rust-lldb", "rustc", "rustdoc", "rustfmt", "rustup"))
"""What rustup puts into ~/.cargo/bin itself."""

HOME_PLACES = (
    Place(".cargo/bin", "cargo install"),
    Place(".rustup", "rustup", SHELL),
    Place(".local/lib/python*/site-packages", "pip install --user", PYTHON, leaves=("__pycache__",)),
    Place(".local/share/pipx/venvs", "pipx install", PYTHON),
    Place(".local/pipx/venvs", "pipx install", PYTHON),
    Place(".local/share/uv/tools", "uv tool install", PYTHON),
    Place(".local/share/uv/python", "uv python install", SHELL),
    Place(".pyenv/versions", "pyenv install", SHELL),
    *(
        Place(path, "conda", SHELL)
        for path in ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".conda/envs")
    ),
    Place(".npm-global/lib/node_modules", "npm install --global", NODE, leaves=("npm", "corepack")),
    Place(".npm-packages/lib/node_modules", "npm install --global", NODE, leaves=("npm", "corepack")),
    Place(".local/lib/node_modules", "npm install --global", NODE, leaves=("npm", "corepack")),
    Place(".nvm/versions/node", "nvm install", SHELL),
    Place(".volta/bin", "volta install", NODE),
    Place(".local/share/pnpm", "pnpm add --global", NODE),
    Place(".config/yarn/global/node_modules", "yarn global add", NODE),
    Place(".yarn/bin", "yarn global add", NODE),
    Place(".bun/bin", "bun", NODE),
    Place(".deno/bin", "deno install"),
    Place("go/bin", "go install"),
    Place(".gem/ruby/*/gems", "gem install --user-install"),
    Place(".local/share/gem/ruby/*/gems", "gem install --user-install"),
    Place(".rbenv/versions", "rbenv install", SHELL),
    Place(".rvm/rubies", "rvm install", SHELL),
    Place(".sdkman/candidates", "sdk install", SHELL),
    Place(".asdf/installs", "asdf install", SHELL),
    Place(".local/share/mise/installs", "mise install", SHELL),
    Place(".ghcup/bin", "ghcup", SHELL),
    Place(".opam", "opam", SHELL),
    Place(".elan/toolchains", "elan", SHELL),
    Place(".juliaup", "juliaup", SHELL),
    Place(".dotnet/tools", "dotnet tool install --global"),
    Place(".krew/bin", "kubectl krew install"),
    Place(".foundry/bin", "foundryup"),
    Place(".claude/local", "an installer of Claude Code"),
    Place(".local/share/claude/versions", "an installer of Claude Code"),
    Place(".opencode/bin", "an installer of opencode"),
    Place(".local/share/flatpak/app", "flatpak install --user"),
    Place(".local/bin", "an installer, as by curl | sh", each=True, kind="program"),
    Place("bin", "somebody by hand", each=True, kind="program"),
    Place(PROFILES, "nix profile or nix-env", each=True, kind="nix_profile"),
    Place(USER_UNITS, "systemctl --user", each=True, kind="user_unit"),
)
"""Below each home. Places of single programs come last: these may belong to a tool that was found before."""

SYSTEM_PLACES = (
    Place("usr/local/lib/node_modules", "npm install --global", NODE, leaves=("npm", "corepack")),
    Place("usr/local/lib/python*/dist-packages", "pip install as root", PYTHON, leaves=("__pycache__",)),
    Place("usr/local/lib/python*/site-packages", "pip install as root", PYTHON, leaves=("__pycache__",)),
    Place("home/linuxbrew/.linuxbrew/Cellar", "brew install"),
    Place("var/lib/flatpak/app", "flatpak install"),
    Place("snap", "snap install", leaves=("README", "bin")),
    Place("usr/local/bin", "an installer, as by curl | sh", each=True, kind="program"),
    Place("usr/local/sbin", "an installer, as by curl | sh", each=True, kind="program"),
    Place("opt", "an installer", each=True, kind="program"),
    Place(
        "usr/local",
        "an installer",
        each=True,
        kind="program",
        leaves=("bin", "etc", "games", "include", "lib", "lib64", "libexec", "man", "sbin", "share", "src"),
    ),
    Place("nix/var/nix/profiles", "nix profile or nix-env as root", each=True, kind="nix_profile"),
    Place("nix/var/nix/profiles/per-user/*", "nix profile or nix-env", each=True, kind="nix_profile"),
)
"""Below / of the host."""
