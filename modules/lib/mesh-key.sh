# Make the private key of this host once, and write its public half beside it. STATE_DIRECTORY is systemd's.
umask 077
cd "$STATE_DIRECTORY" || exit 1
if ! [ -s key ]; then
  wg genkey >key.new
  # Else a power cut could leave an empty file under the new name.
  sync key.new
  mv key.new key
  sync .
fi
wg pubkey <key >public.new
chmod 0644 public.new
mv public.new public
