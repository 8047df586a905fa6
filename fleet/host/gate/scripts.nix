# What the gate of a host runs besides the host program, by the names that gate.sh has for it. Each is the file that fleet sends
# to a host without a gate.
let
  of = room: name: ../../. + "/${room}/scripts/${name}.sh";
in
{
  boot-state = of "steps" "boot-state";
  df = of "deploy" "df";
  diff = of "diff" "system";
  drift = of "drift" "look";
  drift-store = of "drift" "store";
  end-idle = of "steps" "end-idle";
  end-with-us = of "machine" "end-with-us";
  evidence = of "steps" "evidence";
  gates = of "steps" "gates";
  gpu = of "checks" "gpu";
  home = of "drift" "home";
  home-places = ./home-places.txt;
  journal = of "deploy" "journal";
  leave-mark = of "host" "leave-mark";
  nix-configuration = ../../scripts/nix-configuration.sh;
  reboot = of "steps" "reboot";
  receive = of "store/deltas" "receive";
  specialisation = of "steps" "specialisation";
  switch = of "deploy" "switch";
  system = of "steps" "look-at-system";
  system-places = ./system-places.txt;
  texts = of "diff" "texts";
  units = of "deploy" "units";
}
