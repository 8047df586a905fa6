# Agents as users of a host: with their tools, their workspace, limits and a sandbox; with Nix, and without sudo.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  cfg = config.services.fleet.agents;
  inherit (lib) mkOption types;

  publicKey = types.strMatching "(ssh-|ecdsa-|sk-)[^ \n]+ [^\n]+" // {
    description = "SSH public key on one line";
  };
  agentType = types.submodule {
    options = {
      packages = mkOption {
        type = types.listOf types.package;
        default = [ ];
        example = lib.literalExpression "[ pkgs.claude-code pkgs.git ]";
        description = "The agent, and its tools. {command}`fleet diff` and {command}`fleet status` tell their versions by the agent's name.";
      };
      command = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "claude" "--dangerously-skip-permissions" ];
        description = "What runs in its sandbox. Without one it is there for {command}`fleet sandbox ssh`.";
      };
      rig = mkOption {
        type = types.nullOr types.package;
        default = null;
        example = lib.literalExpression "inputs.rigs.rigs.\${pkgs.system}.default.home";
        description = "Its rig of rigup.nix: tools, manuals and settings. {env}`RIG` names the folder.";
      };
      workspace = mkOption {
        type = types.nullOr (types.strMatching "/[^: \n]+");
        default = null;
        example = "/srv/work/site";
        description = "Its home, and {file}`/work` in its sandbox; null for {file}`/var/lib/fleet-agents/NAME`.";
      };
      authorizedKeys = mkOption {
        type = types.listOf publicKey;
        default = [ ];
        description = "Public keys of those who may log in as this agent. Who does is in no sandbox.";
      };
      uid = mkOption {
        type = types.nullOr (types.ints.between 1000 59999);
        default = null;
        description = "The number of its account. It follows from the name, unless two names give the same.";
      };
      memory = mkOption {
        type = types.strMatching "[1-9][0-9]*[MG]";
        default = "4G";
        description = "How much memory it may take, in its sandbox and in all its logins together.";
      };
      cpus = mkOption {
        type = types.ints.positive;
        default = 2;
        description = "How many processors it may keep busy.";
      };
      tasks = mkOption {
        type = types.ints.between 128 1000000;
        default = 1024;
        description = "How many processes and threads it may have.";
      };
      nix = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether Nix can be used in its sandbox. What the daemon builds may fetch from anywhere, so that
          {option}`sandbox.egress` does not hold for that. In its logins it always can.
        '';
      };
      sandbox = {
        enable = mkOption {
          type = types.bool;
          default = true;
          description = "Whether it has a sandbox of its name: {command}`fleet sandbox up HOST/NAME`.";
        };
        egress = mkOption {
          type = types.listOf types.str;
          default = [ ];
          example = [ "api.anthropic.com" ];
          description = "What can be reached from its sandbox.";
        };
        credentials = mkOption {
          type = types.attrsOf types.str;
          default = { };
          example = { token = "/run/secrets/agent-token"; };
          description = "Files of the host that can be read in its sandbox.";
        };
        ttl = mkOption {
          type = types.str;
          default = "8h";
          description = "When its sandbox ends, counted from its start.";
        };
        autostart = mkOption {
          type = types.bool;
          default = false;
          description = "Whether its sandbox starts with the host.";
        };
      };
      mcp = {
        enable = mkOption {
          type = types.bool;
          default = false;
          description = ''
            Whether it can ask for deployments by {command}`fleet mcp`. The server runs outside of its sandbox, as
            {option}`mcp.user`, so that the agent has no key that logs in anywhere. It calls {command}`fleet-mcp`.
          '';
        };
        user = mkOption {
          type = types.nullOr types.singleLineStr;
          default = null;
          example = "deployments";
          description = "Whose SSH keys and state the server uses.";
        };
        file = mkOption {
          type = types.nullOr types.singleLineStr;
          default = null;
          example = "/srv/fleet/fleet.toml";
          description = "The inventory.";
        };
        principal = mkOption {
          type = types.nullOr (types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*");
          default = null;
          description = "The agent of principals.toml that it is; null for its name here.";
        };
        readOnly = mkOption {
          type = types.bool;
          default = false;
          description = "Whether the server has only tools that look.";
        };
      };
    };
  };

  all = cfg.agents;
  names = lib.attrNames all;
  sandboxed = lib.filterAttrs (_: agent: agent.sandbox.enable) all;
  asking = lib.filterAttrs (_: agent: agent.mcp.enable) all;
  hasSandboxes = options ? services.fleet.sandbox;

  uidOf =
    name: agent:
    if agent.uid != null then agent.uid
    else 30000 + lib.mod (lib.fromHexString (builtins.substring 0 8 (builtins.hashString "sha256" "fleet agent ${name}"))) 20000;
  workspaceOf = name: agent: if agent.workspace != null then agent.workspace else "/var/lib/fleet-agents/${name}";
  socketOf = name: "/run/fleet-mcp/${name}/socket";
  client = name: pkgs.writeShellScriptBin "fleet-mcp" "exec ${pkgs.socat}/bin/socat - UNIX-CONNECT:${socketOf name}";
  toolsOf = name: agent: agent.packages ++ lib.optional (agent.rig != null) agent.rig ++ lib.optional agent.mcp.enable (client name);
  versionOf = package: "package ${lib.getName package} ${lib.getVersion package}";

  # --- what would make an agent more than it is ---

  groupsOf =
    name:
    let
      account = config.users.users.${name};
    in
    [ account.group ] ++ account.extraGroups
    ++ lib.attrNames (lib.filterAttrs (_: group: lib.elem name group.members) config.users.groups);
  powers = [ "wheel" "root" "disk" "docker" "podman" "lxd" "incus-admin" "libvirtd" "kvm" "shadow" "systemd-journal" ];
  powerful = lib.filter (name: lib.intersectLists (groupsOf name) powers != [ ]) names;
  of = name: words: lib.elem name words || lib.any (group: lib.elem "@${group}" words) (groupsOf name);
  trusted = lib.filter (name: of name config.nix.settings.trusted-users || lib.elem "*" config.nix.settings.trusted-users) names;
  unknownToNix = lib.filter (name: let allowed = config.nix.settings.allowed-users or [ "*" ]; in !(lib.elem "*" allowed || of name allowed)) names;
  rules = config.security.sudo.extraRules ++ config.security.sudo-rs.extraRules;
  raised = lib.filter (
    name: lib.any (rule: lib.elem name rule.users || lib.elem "ALL" rule.users || lib.any (group: lib.elem group rule.groups) (groupsOf name)) rules
  ) names;
  pairs = lib.groupBy (name: toString (uidOf name all.${name})) names;
in
{
  options.services.fleet.agents = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether agents live on this host, each as a user of its own.";
    };
    agents = mkOption {
      type = types.attrsOf agentType;
      default = { };
      example = lib.literalExpression ''
        { claude = { packages = [ pkgs.claude-code pkgs.git ]; sandbox.egress = [ "api.anthropic.com" ]; }; }
      '';
      description = "The agents, by the names of their users.";
    };
    package = mkOption {
      type = types.nullOr types.package;
      default = null;
      description = "The fleet whose MCP server agents ask, with its extra `serve`. The flake sets its own; elsewhere it has to be set.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge (
      [
        {
          assertions = [
            {
              assertion = lib.all (name: builtins.match "[a-z][a-z0-9-]{0,30}" name != null) names;
              message = "A name in services.fleet.agents.agents is not of small letters, digits and '-', 31 at most, with a letter first.";
            }
            {
              assertion = lib.all (those: lib.length those == 1) (lib.attrValues pairs);
              message = ''
                These names in services.fleet.agents.agents lead to the same number: ${
                  lib.concatMapStringsSep "; " toString (lib.filter (those: lib.length those > 1) (lib.attrValues pairs))
                }. Set uid of one of them.
              '';
            }
            {
              assertion = powerful == [ ];
              message = ''
                ${toString powerful} of services.fleet.agents is in ${toString (lib.unique (lib.concatMap (name: lib.intersectLists (groupsOf name) powers) powerful))}, which
                gives more than an agent may have: leave the agent out of these groups.
              '';
            }
            {
              assertion = raised == [ ];
              message = ''
                A rule of security.sudo is for ${toString raised} of services.fleet.agents, and agents have no sudo: leave the agent out. They
                ask for deployments by fleet mcp.
              '';
            }
            {
              assertion = trusted == [ ];
              message = ''
                nix.settings.trusted-users has ${toString trusted} of services.fleet.agents: whom Nix trusts can put anything into the store.
                Remove it.
              '';
            }
            {
              assertion = unknownToNix == [ ];
              message = "nix.settings.allowed-users leaves ${toString unknownToNix} of services.fleet.agents out, and agents have Nix: add the agent.";
            }
            {
              assertion = sandboxed == { } || hasSandboxes;
              message = ''
                ${toString (lib.attrNames sandboxed)} of services.fleet.agents has a sandbox, and this configuration does not know any: import
                nixosModules.sandbox too, or set sandbox.enable = false.
              '';
            }
            {
              assertion = asking == { } || cfg.package != null;
              message = "services.fleet.agents.package is not set: which fleet serves ${toString (lib.attrNames asking)}?";
            }
            {
              assertion = lib.all (agent: agent.mcp.user != null && lib.hasPrefix "/" (toString agent.mcp.file)) (lib.attrValues asking);
              message = "services.fleet.agents: mcp needs user, and file from / on: with whose logins it serves ${toString (lib.attrNames asking)}, and which fleet.";
            }
            {
              assertion = lib.all (agent: !lib.elem agent.mcp.user names) (lib.attrValues asking);
              message = "services.fleet.agents: mcp.user of ${toString (lib.attrNames asking)} is an agent, which would have the keys of all hosts then: name another user.";
            }
          ];

          users.groups = lib.genAttrs names (_: { });
          users.users = lib.mapAttrs (name: agent: {
            isNormalUser = true;
            description = "Agent";
            uid = uidOf name agent;
            group = name;
            home = workspaceOf name agent;
            hashedPassword = "!";
            packages = toolsOf name agent;
            openssh.authorizedKeys.keys = agent.authorizedKeys;
          }) all;

          # By this the host, and whoever looks at it, knows them: fleet diff shows what changes, fleet drift who has left something.
          environment.etc = lib.mapAttrs' (
            name: agent:
            lib.nameValuePair "fleet/agents/${name}" {
              text = lib.concatLines (
                [ "fleet-agent v1" "home ${workspaceOf name agent}" ]
                ++ lib.optional (agent.rig != null) "rig ${agent.rig}"
                ++ map versionOf agent.packages
              );
            }
          ) all;

          systemd.slices = lib.mapAttrs' (
            name: agent:
            lib.nameValuePair "user-${toString (uidOf name agent)}" {
              description = "Logins of the agent ${name}";
              overrideStrategy = "asDropin";
              sliceConfig = {
                MemoryMax = agent.memory;
                CPUQuota = "${toString (100 * agent.cpus)}%";
                TasksMax = agent.tasks;
              };
            }
          ) all;

          systemd.sockets = lib.mapAttrs' (
            name: _:
            lib.nameValuePair "fleet-mcp-${name}" {
              description = "Where the agent ${name} asks for deployments";
              wantedBy = [ "sockets.target" ];
              socketConfig = {
                ListenStream = socketOf name;
                SocketUser = name;
                SocketMode = "0600";
                Accept = true;
                MaxConnections = 4;
              };
            }
          ) asking;
          systemd.services = lib.mapAttrs' (
            name: agent:
            lib.nameValuePair "fleet-mcp-${name}@" {
              description = "Answers the agent ${name}";
              serviceConfig = {
                User = toString agent.mcp.user;
                ExecStart = toString (
                  [ "${toString cfg.package}/bin/fleet mcp --as ${if agent.mcp.principal != null then agent.mcp.principal else name}" ]
                  ++ [ "--file ${lib.escapeShellArg (toString agent.mcp.file)}" ]
                  ++ lib.optional agent.mcp.readOnly "--read-only"
                );
                StandardInput = "socket";
                StandardError = "journal";
                # What it has begun for the agent goes on when the agent is gone.
                KillMode = "process";
              };
            }
          ) asking;
        }
      ]
      ++ lib.optional hasSandboxes {
        services.fleet.sandbox = lib.mkIf (sandboxed != { }) {
          enable = lib.mkDefault true;
          sandboxes = lib.mapAttrs (name: agent: {
            user = name;
            packages = toolsOf name agent;
            workspace = workspaceOf name agent;
            inherit (agent) command memory cpus tasks;
            inherit (agent.sandbox) egress credentials ttl autostart;
            nixDaemon = agent.nix;
            environment = lib.optionalAttrs (agent.rig != null) { RIG = "${agent.rig}"; };
            sockets = lib.optional agent.mcp.enable (socketOf name);
          }) sandboxed;
        };
      }
    )
  );
}
