# On real NixOS: a deployment that is kept, one that fails its check and is rolled back, one whose check passes only
# where nobody can log in any more, and a bad switch by hand that goes back by itself. `make nixos`
{
  fleet,
  lib,
  nixosModules,
  pkgs,
  ...
}:
let
  keys = import (pkgs.path + "/nixos/tests/ssh-keys.nix") pkgs;

  page = version: status: {
    services.nginx.virtualHosts.default.locations."/".return = lib.mkForce "${toString status} 'version ${version}'";
    system.nixos.tags = [ version ];
  };

  inventory = (pkgs.formats.toml { }).generate "fleet.toml" {
    fleet.name = "test";
    hosts.target = {
      user = "deploy";
      sudo = true;
      substitute = false; # there is no network
      settle = "2s";
      confirm_timeout = "20s";
      checks = [
        {
          name = "web";
          http = "http://127.0.0.1/";
          within = "10s";
        }
      ];
    };
  };
in
{
  name = "fleet-deploy";

  nodes = {
    controller =
      { nodes, ... }:
      {
        environment.systemPackages = [
          fleet
          pkgs.jq
        ];
        environment.etc."fleet/fleet.toml".source = inventory;
        # The closures to deploy: they are specialisations, so that they have the network of the test.
        virtualisation.additionalPaths = [ nodes.target.system.build.toplevel ];
      };

    target = {
      imports = [
        nixosModules.base
        nixosModules.guard
      ];

      services.fleet.base = {
        enable = true;
        authorizedKeys = [ keys.snakeOilEd25519PublicKey ];
      };

      services.fleet.guard = {
        enable = true;
        window = "10s";
      };

      services.nginx = {
        enable = true;
        virtualHosts.default.locations."/".return = "200 'version 1'";
      };

      specialisation = {
        good.configuration = page "2" 200;
        bad.configuration = page "3" 503;
        silent.configuration = {
          imports = [ (page "4" 200) ];
          services.openssh.enable = lib.mkForce false;
        };
        crash.configuration.systemd.services.crash = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig.ExecStart = "${pkgs.coreutils}/bin/false";
        };
      };

      virtualisation.useBootLoader = true;
      virtualisation.useEFIBoot = true;
      boot.loader.systemd-boot.enable = true;
    };
  };

  testScript =
    { nodes, ... }:
    let
      toplevel = nodes.target.system.build.toplevel;
    in
    ''
      import json

      start_all()
      target.wait_for_unit("multi-user.target")
      target.wait_for_unit("sshd.service")
      target.wait_for_open_port(80)
      controller.systemctl("start network-online.target")
      controller.wait_for_unit("network-online.target")
      controller.succeed(
          "install -D -m 600 ${keys.snakeOilEd25519PrivateKey} /root/.ssh/id_ed25519",
          "ssh-keyscan -t ed25519 target > /root/.ssh/known_hosts",
      )


      def closure(name):
          return controller.succeed(f"readlink -f ${toplevel}/specialisation/{name}").strip()


      def running():
          return target.succeed("readlink -f /run/current-system").strip()


      def deploy(name):
          """The exit code, and what became of the host."""
          code, out = controller.execute(
              f"cd /etc/fleet && fleet deploy target --json --closure {closure(name)}", timeout=300
          )
          end = json.loads(out.strip().splitlines()[-1])
          assert end["event"] == "run_finished" and end["exit_code"] == code, out
          return code, end["hosts"][0]


      with subtest("a healthy system is kept, and boots next"):
          code, host = deploy("good")
          assert (code, host["outcome"], host["boot_default"]) == (0, "kept", True), host
          assert running() == closure("good")
          assert "version 2" in target.succeed("curl -s http://127.0.0.1/")

      with subtest("a system whose check fails is rolled back, and refused from then on"):
          code, host = deploy("bad")
          assert (code, host["outcome"]) == (1, "rolled_back"), host
          assert running() == closure("good")
          assert "version 2" in target.succeed("curl -s http://127.0.0.1/")
          code, host = deploy("bad")
          assert (host["outcome"], host["error"]["kind"]) == ("failed", "quarantined"), host

      with subtest("a system that lets nobody in goes back by itself"):
          code, host = deploy("silent")
          target.wait_until_succeeds("test ! -e /run/fleet/open", timeout=120)
          assert running() == closure("good")
          assert code in (1, 4), host
          target.succeed("systemctl is-active sshd.service")

      with subtest("no unprivileged user can read what is fleet's, or keep the host from switching"):
          lock = "/run/nixos/switch-to-configuration.lock"
          target.fail(f"runuser -u nobody -- flock -n {lock} true")
          for folder in ("/run/fleet", "/nix/var/fleet", "/nix/var/nix/gcroots/fleet"):
              target.succeed(f"ls {folder}")
              target.fail(f"runuser -u nobody -- ls {folder}")

      with subtest("a bad switch by hand goes back by itself"):
          target.execute(f"{closure('crash')}/bin/switch-to-configuration test")
          target.wait_until_succeeds("test ! -e /run/fleet/open", timeout=120)
          assert "crash.service has failed" in target.succeed("cat /run/fleet/last/reason")
          assert running() == closure("good")

      with subtest("what was kept is what boots"):
          target.shutdown()
          target.start()
          target.wait_for_unit("multi-user.target")
          assert running() == closure("good")
          status = json.loads(controller.succeed("cd /etc/fleet && fleet status --json"))["hosts"][0]
          assert status["running"] == status["profile"] == status["boot_default"], status
          assert status["transaction"] is None, status
    '';
}
