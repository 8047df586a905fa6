# A system for a driver other than NixOS's, in the shape that its own tools give it: one service `web` on port 8090, and what
# activates it, in the words and exit statuses of the original. `script` is run amid the activation. With `oneway` it
# cannot be taken back.
{ bin, driver, version, status ? 200, script ? ":", oneway ? "", user ? "alice", system ? "x86_64-linux" }:
let
  busybox = "${builtins.path { path = bin; name = "bb"; }}/busybox";
  scripts = builtins.path { path = ./. + "/${driver}"; name = "scripts"; };
  handler = builtins.toFile "handler" ''
    while read -r header && [ "''${header%?}" ]; do :; done
    printf 'HTTP/1.0 ${toString status} Test\r\nContent-Type: text/plain\r\n\r\nversion ${version}\n'
  '';
  unit = builtins.toFile "web.service" ''
    [Service]
    ExecStart=${busybox} nc -ll -p 8090 -e ${busybox} sh ${handler}
    [Install]
    WantedBy=multi-user.target
  '';
  make = name: args: derivation ({
    inherit name;
    inherit system;
    builder = busybox;
    args = [ "sh" "-eu" ./build.sh ];
    inherit busybox unit script oneway version scripts user;
  } // args);
  environment = make "etc-static-env" { kind = "environment"; };
in
make "${driver}-${version}" { kind = driver; inherit environment; }
