# One lab closure, in the shape of a NixOS system, built by a static busybox: no nixpkgs, any sandbox.
#
# `config` is an attrset, or a function of { busybox }. What it may say, all of it optional:
#
#   version = "1"                       part of the closure's name, and its nixos-version
#   services.NAME = { exec | http | text; unit; service; wantedBy; }
#     exec = "COMMAND"                  absolute, e.g. "${busybox} sleep inf"
#     http = { port; status; body; }    answers every request on the port
#     unit, service = { KEY = VALUE; }  further lines of [Unit] and [Service]; a list repeats the key
#   units."NAME.timer" = "TEXT" | { text; wantedBy; }       any other unit, or NAME.service.d/x.conf
#   files."etc/PATH" = "TEXT"
#   packages.NAME = "VERSION"           a command NAME in sw/bin that prints its version
#   kernel, initrd, systemd = "VERSION"; kernelParams = [ … ]; initInterfaceVersion; switchInhibitors = { }
#   builderArgs.NAME = "TEXT"           in the environment of the derivation, as system.systemBuilderArgs of NixOS
#   switchToConfiguration = "/PATH"     NixOS's own program, which is on the host and runs in place of ours
#
# And to break things on purpose, each a shell text run with -e:
#
#   activationScript, dryActivationScript    fails: activation has failed, and goes on
#   switchScript                             in `switch` and `test`, before anything is stopped
#   bootLoaderScript                         instead of installing the boot loader
#   beforeBootLoader                         before it is installed
#   preSwitchChecks.NAME                     fails: the switch is refused
#   switchExit = 4                           what `switch` and `test` exit with, whatever happened
#   initrdScript                             VMs only, not with -e: read by stage 1, before it mounts anything
#
# `linux` is the kernel of a VM: a store path lab-linux of this hash, which is there already. Without it the kernel is
# a word in a file: a container has none.
{ name, system, config ? { }, linux ? null }:
let
  inherit (builtins) attrNames attrValues concatLists concatStringsSep filter hasAttr isAttrs isBool
    isFunction isList listToAttrs mapAttrs placeholder readFile replaceStrings stringLength toJSON toString;

  busybox = builtins.path { path = ./bin; name = "busybox"; } + "/busybox";

  build = builtins.path { path = ./system/build.sh; name = "build.sh"; };

  defaults = {
    version = "1";
    services = { };
    units = { };
    files = { };
    packages = { };
    kernel = "6.12.1";
    initrd = "1";
    systemd = "257";
    kernelParams = [ "loglevel=4" ] ++ (if linux == null then [ ] else [ "console=ttyS0" ]);
    initInterfaceVersion = "systemd 2";
    switchInhibitors = { };
    builderArgs = { };
    switchToConfiguration = null;
    activationScript = null;
    dryActivationScript = null;
    switchScript = null;
    bootLoaderScript = null;
    beforeBootLoader = null;
    preSwitchChecks = { };
    switchExit = null;
    initrdScript = null;
  };
  given = if isFunction config then config { inherit busybox; } else config;
  unknown = filter (key: !(hasAttr key defaults)) (attrNames given);
  cfg =
    if unknown == [ ] then defaults // given
    else throw "hosts/${name}.nix: unknown: ${concatStringsSep ", " unknown}; system.nix says what there is";

  # A store path NAME made of `texts` (path -> text), `scripts` (the same, executable), `links` (path -> target) and
  # `copies` (path -> source).
  tree = treeName: { texts ? { }, scripts ? { }, links ? { }, copies ? { }, environment ? { } }:
    let
      contents = listToAttrs (concatLists [
        (map (path: { name = "text ${path}"; value = texts.${path}; }) (attrNames texts))
        (map (path: { name = "script ${path}"; value = scripts.${path}; }) (attrNames scripts))
        (map (path: { name = "link ${path}"; value = links.${path}; }) (attrNames links))
        (map (path: { name = "copy ${path}"; value = copies.${path}; }) (attrNames copies))
      ]);
      keys = attrNames contents;
      numbers = builtins.genList (n: "item${toString n}") (builtins.length keys);
    in
    derivation (listToAttrs
      (builtins.genList
        (n: { name = "item${toString n}"; value = "${contents.${builtins.elemAt keys n}}"; })
        (builtins.length keys)) // environment // {
      name = treeName;
      inherit system;
      builder = busybox;
      args = [ "sh" "-eu" build ];
      inherit busybox;
      layout = concatStringsSep "" (map (key: key + "\n") keys);
      passAsFile = [ "layout" ] ++ numbers;
      # Local and tiny: asking a cache for it would cost more, and fail where there is none.
      preferLocalBuild = true;
      allowSubstitutes = false;
    });

  line = key: value:
    if isList value then concatStringsSep "" (map (line key) value)
    else if isBool value then "${key}=${if value then "true" else "false"}\n"
    else "${key}=${toString value}\n";
  section = title: keys: "[${title}]\n" + concatStringsSep "" (attrValues (mapAttrs line keys));

  http = { port, status ? 200, body ? "version ${cfg.version}" }:
    let
      text = body + "\n";
      handler = builtins.toFile "http-${toString port}" ''
        while read -r header && [ "''${header%?}" ]; do :; done
        printf 'HTTP/1.0 %s Lab\r\nContent-Type: text/plain\r\nContent-Length: %s\r\n\r\n' \
            ${toString status} ${toString (stringLength text)}
        ${busybox} cat <<'BODY'
        ${text}BODY
      '';
    in
    "${busybox} nc -ll -p ${toString port} -e ${busybox} sh ${handler}";

  service = service: {
    wantedBy = service.wantedBy or [ "multi-user.target" ];
    text = service.text or (section "Unit" (service.unit or { }) + "\n" + section "Service"
      ({ ExecStart = service.exec or (http service.http); } // (service.service or { })));
  };
  services = listToAttrs (map
    (key: { name = "${key}.service"; value = service cfg.services.${key}; })
    (attrNames cfg.services));
  unit = value: if isAttrs value then { wantedBy = [ ]; } // value else { text = value; wantedBy = [ ]; };
  allUnits = (if imitated then { } else targets) // services // mapAttrs (_: unit) cfg.units;

  # NixOS has systemd's own units in /etc too, and its program touches no others. The last it restarts by name.
  targets = mapAttrs (_: keys: unit (section "Unit" ({ X-StopOnRemoval = false; } // keys))) {
    "multi-user.target" = {
      Requires = "basic.target";
      After = "basic.target rescue.service rescue.target";
      Conflicts = "rescue.service rescue.target";
      AllowIsolate = true;
    };
    "local-fs.target" = {
      DefaultDependencies = false;
      After = "local-fs-pre.target";
      Conflicts = "shutdown.target";
      OnFailure = "emergency.target";
      OnFailureJobMode = "replace-irreversibly";
    };
    "sockets.target" = { DefaultDependencies = false; Conflicts = "shutdown.target"; };
    "timers.target" = { DefaultDependencies = false; Conflicts = "shutdown.target"; };
    "sysinit-reactivation.target" = { };
  };

  units = tree "system-units" {
    texts = mapAttrs (_: unit: unit.text) allUnits;
    links = listToAttrs (concatLists (attrValues (mapAttrs
      (key: unit: map (target: { name = "${target}.wants/${key}"; value = "../${key}"; }) unit.wantedBy)
      allUnits)));
  };
  etc = tree "etc" {
    texts = mapAttrs
      (path: text: if builtins.match "etc/.+" path != null then text else throw "files: ${path} is not in etc/")
      cfg.files;
    links."etc/systemd/system" = "${units}";
  };

  package = key: version: tree "${key}-${version}" {
    scripts."bin/${key}" = "#!/bin/sh\necho ${key} ${version}\n";
  };
  # Debian's own tools serve the host, so sw/bin, first in many a PATH, must hide none of them.
  sw = tree "system-path" {
    links = listToAttrs (map
      (key: { name = "bin/${key}"; value = "${package key commands.${key}}/bin/${key}"; })
      (attrNames commands));
  };
  commands = { lab-host = "1"; } // cfg.packages;
  # Its hash is known and it is in the store: nothing is built.
  debian = derivation {
    name = "lab-linux";
    inherit system;
    builder = "/not/built/but/added/by/fleet/lab/up";
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = linux.hash;
  };
  # Copies: two versions differ in their store path alone, and are as far apart as two kernels of NixOS.
  kernel = tree "linux-${cfg.kernel}" (
    if linux == null then { texts.bzImage = "Linux ${cfg.kernel}\n"; } else { copies.bzImage = "${debian}/bzImage"; });
  modules = tree "linux-${cfg.kernel}-modules" { texts."lib/modules/${cfg.kernel}/modules.dep" = "\n"; };
  initrdText = "initrd ${cfg.initrd} of ${cfg.kernel}\n";
  initrd =
    if linux == null then tree "initrd-linux-${cfg.kernel}" { texts.initrd = initrdText; }
    else derivation {
      name = "initrd-linux-${cfg.kernel}";
      inherit system busybox;
      builder = busybox;
      args = [ "sh" "-eu" (builtins.path { path = ./system/initrd.sh; name = "initrd.sh"; }) ];
      stage1 = "${debian}/initrd";
      text = initrdText;
      script = if cfg.initrdScript == null then "" else cfg.initrdScript;
      preferLocalBuild = true;
      allowSubstitutes = false;
    };
  systemd = tree "systemd-${cfg.systemd}" { texts."share/lab" = "Debian's systemd serves this host\n"; };

  toplevel = placeholder "out";
  imitated = cfg.switchToConfiguration == null;
  script = text: replaceStrings [ "@toplevel@" "@program@" ] [ toplevel (toString cfg.switchToConfiguration) ] text;
  imitation =
    let
      lines = builtins.split "\n" (readFile ./system/switch-to-configuration/parts.txt);
      parts = filter (line: builtins.isString line && line != "") lines;
    in
    concatStringsSep "" (map (part: readFile (./system/switch-to-configuration + "/${part}")) parts);
  givenTexts = listToAttrs (filter (item: item.value != null) [
    { name = "lab/activation-script"; value = cfg.activationScript; }
    { name = "lab/dry-activation-script"; value = cfg.dryActivationScript; }
    { name = "lab/switch-script"; value = cfg.switchScript; }
    { name = "lab/boot-loader-script"; value = cfg.bootLoaderScript; }
    { name = "lab/before-boot-loader"; value = cfg.beforeBootLoader; }
    { name = "lab/switch-exit"; value = if cfg.switchExit == null then null else toString cfg.switchExit; }
  ]);
in
tree "nixos-system-${name}-${cfg.version}" {
  environment = cfg.builderArgs;
  texts = givenTexts // listToAttrs (map
    (key: { name = "lab/pre-switch-checks/${key}"; value = cfg.preSwitchChecks.${key}; })
    (attrNames cfg.preSwitchChecks)) // {
    nixos-version = "lab.${cfg.version}";
    inherit system;
    init-interface-version = cfg.initInterfaceVersion;
    kernel-params = concatStringsSep " " cfg.kernelParams;
    switch-inhibitors = toJSON cfg.switchInhibitors;
    extra-dependencies = "";
    "boot.json" = toJSON {
      "org.nixos.bootspec.v1" = {
        inherit system toplevel;
        init = "${toplevel}/init";
        kernel = "${kernel}/bzImage";
        kernelParams = cfg.kernelParams;
        initrd = "${initrd}/initrd";
        label = "NixOS lab ${cfg.version} (Linux ${cfg.kernel})";
      };
      "org.nixos.specialisation.v1" = { };
    };
  };
  scripts = {
    activate = script (readFile ./system/activate.sh);
    dry-activate = script (readFile ./system/dry-activate.sh);
    "bin/switch-to-configuration" = script (if imitated then imitation else readFile ./system/wrapper.sh);
    init = "#!/bin/sh\nexec /usr/sbin/lab-stage-2 ${toplevel}\n";
  } // (if imitated then { } else { "lab/imitation" = script imitation; });
  links = {
    etc = "${etc}/etc";
    sw = "${sw}";
    systemd = "${systemd}";
    kernel = "${kernel}/bzImage";
    kernel-modules = "${modules}";
    initrd = "${initrd}/initrd";
  };
}
