# Tells `fleet init` which hosts the outputs of a flake, or the value of a file, configure, and what the outputs of
# colmena and deploy-rs say of them. The result is data.
{
  # The names to look at; null for all.
  only ? null,
  # Whether only the names are wanted. Nothing is evaluated for them that may fail because of a host.
  namesOnly ? false,
  # Whether an error of a host may be the error of all: `only` has one name then, and the error is the answer.
  strict ? false,
  # Whether each attribute may be a system, as in a file of people without flakes.
  isFile ? false,
}:
given:
let
  inherit (builtins)
    all
    attrNames
    concatMap
    deepSeq
    elem
    filter
    foldl'
    intersectAttrs
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isString
    listToAttrs
    mapAttrs
    removeAttrs
    tryEval
    ;

  # The value, or null if it throws.
  attempt =
    value:
    let
      tried = tryEval (deepSeq value value);
    in
    if strict then value else if tried.success then tried.value else null;
  optionalAttrs = condition: value: if condition then value else { };
  set = value: if isAttrs value then value else { };
  pick = keys: from: intersectAttrs keys (set from);
  # Data, or null for what is none: a function, or a set such as mkDefault makes.
  plain =
    value:
    if isString value || isInt value || isBool value then
      value
    else if isList value && all isString value then
      value
    else
      null;
  values = keys: from: mapAttrs (_: value: attempt (plain value)) (pick keys from);
  named = names: listToAttrs (map (name: { inherit name; value = null; }) names);
  wanted = from: if only == null then from else intersectAttrs (named only) from;
  each = look: from: mapAttrs (name: value: if namesOnly then null else look name value) (wanted from);

  outputs = if isFunction given then given { } else given;
  hasHive = outputs ? colmenaHive || (isFile && outputs ? __schema);
  hive = if outputs ? colmenaHive then outputs.colmenaHive else outputs;

  # Programs whose unit says best what a host is for, by the option that enables each.
  units = {
    caddy = "caddy.service";
    forgejo = "forgejo.service";
    gitea = "gitea.service";
    grafana = "grafana.service";
    home-assistant = "home-assistant.service";
    jellyfin = "jellyfin.service";
    k3s = "k3s.service";
    mysql = "mysql.service";
    nginx = "nginx.service";
    postgresql = "postgresql.service";
    prometheus = "prometheus.service";
    vaultwarden = "vaultwarden.service";
  };
  mayLogIn =
    user:
    let
      keys = user.openssh.authorizedKeys or { };
    in
    (keys.keys or [ ]) != [ ] || (keys.keyFiles or [ ]) != [ ];
  isAdministrator = user: (user.isNormalUser or false) && elem "wheel" (user.extraGroups or [ ]) && mayLogIn user;

  ofConfiguration =
    _: configuration:
    let
      config = configuration.config or { };
      build = config.system.build or { };
      users = config.users.users or { };
    in
    {
      # Assertions of NixOS fail as soon as anybody looks at the system.
      evaluates = attempt (configuration.type or "" == "derivation" || isAttrs (build.toplevel or null)) == true;
    }
    // optionalAttrs (!strict) {
      system = attempt (
        plain (
          configuration.pkgs.stdenv.hostPlatform.system or config.nixpkgs.hostPlatform.system
            or configuration.system or build.toplevel.system or null
        )
      );
      # An installer or a virtual machine that runs as an image of its own.
      isImage = attempt (build ? isoImage || build ? netbootRamdisk || config ? virtualisation.diskImage) == true;
      fqdn = attempt (if (config.networking.domain or null) == null then null else plain (config.networking.fqdn or null));
      ports = attempt (filter isInt (config.services.openssh.ports or [ ]));
      administrators = attempt (filter (name: isAdministrator users.${name}) (attrNames users));
      rootMayLogIn = attempt (mayLogIn (users.root or { }));
      sudoNeedsPassword = attempt (plain (config.security.sudo.wheelNeedsPassword or true));
      # One by one: an option that NixOS has removed throws.
      units = concatMap (
        name: if attempt (config.services.${name}.enable or false) == true then [ units.${name} ] else [ ]
      ) (attrNames units);
    };

  colmenaKeys = {
    allowLocalDeployment = null;
    buildOnTarget = null;
    privilegeEscalationCommand = null;
    sshOptions = null;
    tags = null;
    targetHost = null;
    targetPort = null;
    targetUser = null;
  };
  ofDeployment =
    deployment:
    values colmenaKeys deployment // { keys = attempt (attrNames (set (deployment.keys or { }))); };
  ofNode = name: node: {
    configuration = ofConfiguration name node;
    deployment = ofDeployment (attempt' (node.config.deployment or { }));
  };
  # As `attempt`, for a set whose members are attempted one by one.
  attempt' =
    value:
    let
      tried = tryEval value;
    in
    if strict then value else if tried.success then set tried.value else { };

  rawHive = attempt' (
    if isFunction (outputs.colmena or { }) then outputs.colmena { } else outputs.colmena or { }
  );
  # The modules of a raw hive are evaluated by colmena alone: what they say in plain sight is all that can be known.
  ofRaw =
    _: node:
    let
      own = attempt' (if isAttrs node then node.deployment or { } else { });
      common = attempt' (if isAttrs (rawHive.defaults or null) then rawHive.defaults.deployment or { } else { });
    in
    {
      isReadable = attempt (isAttrs node) == true;
      deployment = ofDeployment (set common // set own);
    };

  deployKeys = {
    activationTimeout = null;
    autoRollback = null;
    confirmTimeout = null;
    fastConnection = null;
    hostname = null;
    interactiveSudo = null;
    magicRollback = null;
    remoteBuild = null;
    sshUser = null;
    sudo = null;
    user = null;
  };
  deploy = attempt' (outputs.deploy or { });
  ofDeploy =
    _: node:
    let
      profiles = set (node.profiles or { });
      levels = [ deploy node (set (profiles.system or { })) ];
    in
    foldl' (settings: level: settings // values deployKeys (attempt' level)) { } levels
    // {
      profiles = attempt (attrNames profiles);
      sshOpts = attempt (concatMap (level: filter isString (level.sshOpts or [ ])) levels);
    };

  isSystem =
    value: (isAttrs value) && ((value.type or "") == "derivation" || value ? config.system.build.toplevel);
  # In a file, what throws may be a host too. What is surely something else is none.
  systems =
    if outputs ? nixosConfigurations then
      outputs.nixosConfigurations
    else if isFile && !hasHive then
      listToAttrs (
        concatMap (
          name:
          let
            value = outputs.${name};
            is = if namesOnly || strict then true else attempt (isSystem value);
          in
          if is == false then [ ] else [ { inherit name value; } ]
        ) (attrNames (set outputs))
      )
    else
      { };
in
{
  isRawHive = isFile && !hasHive && (outputs ? meta || outputs ? network);
  hasConfigurations = outputs ? nixosConfigurations;
  hiveIs = if outputs ? colmenaHive then "colmenaHive" else if hasHive then "" else null;
  configurations = each ofConfiguration systems;
  nodes = each ofNode (attempt' (if hasHive then hive.nodes or { } else { }));
  raw = each ofRaw (removeAttrs rawHive [ "meta" "network" "defaults" ]);
  deploy = each ofDeploy (attempt' (deploy.nodes or { }));
}
