# A riglet for rigup.nix: agents look at the fleet, plan, and ask. They get the MCP server of `fleet` with its limits, and
# the program to look with; what would change hosts, or speak for people, is denied to them as a command.
self:
{
  config,
  lib,
  pkgs,
  system,
  ...
}:
let
  cfg = config.fleet;
  inherit (self.packages.${system}) fleet;
  # The MCP server needs what else only people need who have asked for it.
  served = fleet.overridePythonAttrs (old: {
    dependencies = old.dependencies ++ old.optional-dependencies.serve;
  });
  flags =
    lib.optional cfg.readOnly "--read-only"
    ++ lib.optionals (cfg.principal != null) [
      "--as"
      cfg.principal
    ]
    ++ lib.optionals (cfg.file != null) [
      "--file"
      cfg.file
    ];
in
{
  options.fleet = {
    principal = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*");
      default = null;
      example = "agent-3";
      description = "The agent of principals.toml as which the MCP server acts.";
    };
    socket = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = "/run/fleet-mcp/claude/socket";
      description = "Where services.fleet.agents serves this agent, who then needs no login; null to run the server itself.";
    };
    readOnly = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Whether the MCP server has only tools that look.";
    };
    file = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = "/home/ann/fleet/fleet.toml";
      description = "The fleet.toml; null for the one in the folder in which the agent runs, or above.";
    };
  };

  config.mcpServers.fleet.command = pkgs.writeShellScriptBin "fleet-mcp" (
    if cfg.socket != null then
      ''
        exec ${lib.getExe pkgs.socat} - UNIX-CONNECT:${lib.escapeShellArg cfg.socket}
      ''
    else
      ''
        exec ${lib.getExe served} mcp ${lib.escapeShellArgs flags} "$@"
      ''
  );

  config.riglets.fleet = {
    tools = [ fleet ];
    docs = ./.;

    # Entrypoints allow every command that begins with the name of a tool, and deny what begins so. A flag may stand
    # anywhere in a command, so whole verbs are denied, and so are the flags that may stand before them.
    denyRules = {
      fleet = [
        "--debug"
        "apply"
        "approve"
        "completion"
        "deliver"
        "deploy"
        "drift"
        "exec"
        "gc"
        "image"
        "init"
        "install"
        "lab"
        "man"
        "mcp"
        "mesh"
        "notify"
        "pins"
        "push"
        "reboot"
        "rehearse"
        "resume"
        "rollback"
        "rollout"
        "sandbox"
        "secrets"
        "serve"
        "ssh"
        "token"
        "trust"
        "withdraw"
        "worker"
      ];
      nixos-rebuild = [
        "boot"
        "build-vm"
        "switch"
        "test"
      ];
    };

    meta = {
      description = "Plan and deploy NixOS to a fleet of hosts, with people's approval, over MCP";
      intent = "playbook";
      whenToUse = [
        "Finding out what hosts run and how they are"
        "Changing hosts of a fleet: updates, new services, rollbacks"
        "Being told that a plan needs an approval"
      ];
      keywords = [
        "fleet"
        "nixos"
        "deploy"
        "rollback"
        "mcp"
      ];
      status = "experimental";
      inherit (fleet) version;
    };
  };
}
