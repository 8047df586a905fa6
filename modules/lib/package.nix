# `fleet` as a Python application. Nix itself is the user's; ssh and git are used where there are none.
{
  lib,
  gitMinimal,
  installShellFiles,
  openssh,
  python3Packages,
}:
let
  project = (lib.importTOML ../../pyproject.toml).project;
in
python3Packages.buildPythonApplication {
  pname = project.name;
  inherit (project) version;
  pyproject = true;

  src = lib.fileset.toSource {
    root = ../..;
    fileset = lib.fileset.unions [
      ../../LICENSE
      ../../README.md
      ../../fleet
      ../../pyproject.toml
    ];
  };

  build-system = [ python3Packages.hatchling ];

  nativeBuildInputs = [ installShellFiles ];

  dependencies =
    with python3Packages;
    [
      asyncssh
      click
      google-re2
      h11
      pydantic
      rich
      tomli-w
    ]
    ++ lib.optional (pythonOlder "3.14") backports-zstd;

  # With another asyncssh than pyproject.toml wants, fleet patches none: slower, and with the same results.
  pythonRelaxDeps = [ "asyncssh" ];

  optional-dependencies = {
    lab = [ python3Packages.testcontainers ];
    scale = with python3Packages; [
      procrastinate
      psycopg
      psycopg-pool
    ];
    serve = with python3Packages; [
      jinja2
      mcp
      python-multipart
      sse-starlette
      starlette
      uvicorn
    ];
  };

  makeWrapperArgs = [
    "--suffix"
    "PATH"
    ":"
    (lib.makeBinPath [
      gitMinimal
      openssh
    ])
  ];

  # Written by the program itself, as `fleet completion install` and `fleet man install` do.
  postInstall = ''
    for shell in bash zsh fish; do
      $out/bin/fleet completion show $shell >fleet.$shell
    done
    installShellCompletion --cmd fleet fleet.bash fleet.zsh fleet.fish
    $out/bin/fleet man install --dir $out/share/man
  '';

  pythonImportsCheck = [
    "fleet"
    "fleet.cli"
    "fleet.deploy.run"
    "fleet.state.archive"
  ];

  meta = {
    inherit (project) description;
    license = lib.licenses.mit;
    mainProgram = "fleet";
    platforms = lib.platforms.linux;
  };
}
