# Who may deploy to the hosts, and is thereby root on them: your public keys, the text of ~/.ssh/id_ed25519.pub.
# This one is an example whose other half nobody has; each host warns until it is replaced.
[
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V you@controller" # yours
]
