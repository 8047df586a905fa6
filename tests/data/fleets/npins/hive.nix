{
  meta.nixpkgs = throw "a whole nixpkgs";
  aibo = { ... }: {
    deployment = {
      allowLocalDeployment = true;
      targetHost = null;
    };
  };
  kumo = { ... }: {
    deployment = {
      targetHost = "kumo.example.org";
      tags = [ "far away" "cloud" ];
      keys."dns.token".keyFile = "/keys/dns.token";
    };
  };
}
