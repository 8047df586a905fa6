# A stand-in for nixpkgs' lib: as much of it as modules/ and these files read, so that tests need no nixpkgs. Written from
# the manual of nixpkgs. It is never kinder than the real one: what is not here does not exist, and where the real library
# would go on with something that no module here means, this one stops. Tests compare the two wherever both are there.
let
  inherit (builtins)
    all
    any
    attrNames
    attrValues
    compareVersions
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    fromJSON
    genList
    groupBy
    head
    isAttrs
    isBool
    isFunction
    isString
    length
    listToAttrs
    mapAttrs
    match
    parseDrvName
    partition
    readFile
    replaceStrings
    split
    stringLength
    substring
    tail
    toJSON
    zipAttrsWith
    ;

  lib = {
    inherit
      all
      any
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elem
      elemAt
      filter
      groupBy
      head
      isFunction
      isString
      length
      mapAttrs
      partition
      replaceStrings
      stringLength
      substring
      tail
      zipAttrsWith
      ;
    inherit (import ./modules.nix lib)
      evalModules
      isOption
      mergeOneOption
      mkAfter
      mkBefore
      mkDefault
      mkForce
      mkIf
      mkMerge
      mkOption
      mkOptionType
      mkOrder
      mkOverride
      showOption
      ;
    types = import ./types.nix lib;

    id = value: value;
    literalExpression = text: { _type = "literalExpression"; inherit text; };
    literalMD = text: { _type = "mdDoc"; inherit text; };

    # lists
    allUnique = list: length (lib.unique list) == length list;
    intersectLists = list: filter (each: elem each list);
    last = list: elemAt list (length list - 1);
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    remove = value: filter (each: each != value);
    take = number: list: genList (elemAt list) (if number < length list then number else length list);
    toList = value: if builtins.isList value then value else [ value ];
    unique = foldl' (list: each: if elem each list then list else list ++ [ each ]) [ ];

    # sets
    collect =
      keeps: value:
      if keeps value then
        [ value ]
      else if isAttrs value then
        concatMap (lib.collect keeps) (attrValues value)
      else
        [ ];
    nameValuePair = name: value: { inherit name value; };
    filterAttrs = keeps: set: removeAttrs set (filter (name: !keeps name set.${name}) (attrNames set));
    genAttrs = names: make: listToAttrs (map (name: lib.nameValuePair name (make name)) names);
    mapAttrs' = make: set: listToAttrs (lib.mapAttrsToList make set);
    mapAttrsToList = make: set: map (name: make name set.${name}) (attrNames set);
    optionalAttrs = condition: set: if condition then set else { };

    # strings
    boolToYesNo = condition: if condition then "yes" else "no";
    concatLines = lib.concatMapStrings (line: line + "\n");
    concatMapStrings = make: list: lib.concatStrings (map make list);
    concatMapStringsSep = separator: make: list: concatStringsSep separator (map make list);
    concatStrings = concatStringsSep "";
    escapeRegex =
      let
        special = [ "\\" "^" "$" "." "*" "+" "?" "(" ")" "[" "{" "|" ];
      in
      replaceStrings special (map (each: "\\${each}") special);
    escapeShellArg =
      value:
      let
        text = toString value;
      in
      if match "[[:alnum:],._+:@%/-]+" text != null then text else "'${replaceStrings [ "'" ] [ "'\\''" ] text}'";
    escapeShellArgs = list: concatStringsSep " " (map lib.escapeShellArg list);
    hasInfix = part: text: length (split (lib.escapeRegex part) text) > 1;
    hasPrefix = start: text: substring 0 (stringLength start) text == start;
    hasSuffix =
      end: text:
      let
        start = stringLength text - stringLength end;
      in
      start >= 0 && substring start (stringLength end) text == end;
    optionalString = condition: text: if condition then text else "";
    removeSuffix =
      end: text: if lib.hasSuffix end text then substring 0 (stringLength text - stringLength end) text else text;
    splitString = separator: text: filter isString (split (lib.escapeRegex separator) text);
    strings.toJSON = toJSON;
    fromHexString = digits: (builtins.fromTOML "number = 0x${digits}").number;
    mod = number: by: number - by * (number / by);
    toIntBase10 =
      text:
      let
        digits = match "0*([0-9]+)" text;
      in
      if digits == null then throw "toIntBase10: ${toJSON text} is no number" else fromJSON (head digits);

    # packages
    getName = package: if isString package then (parseDrvName package).name else package.pname or (parseDrvName package.name).name;
    getVersion = package: if isString package then (parseDrvName package).version else package.version or (parseDrvName package.name).version;
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    licenses.mit.spdxId = "MIT";
    makeBinPath = packages: concatStringsSep ":" (map (package: "${package}/bin") packages);
    platforms.linux = [ "x86_64-linux" "aarch64-linux" ];
    systems.elaborate = system: if isAttrs system then system else { inherit system; };

    # formats
    generators.toKeyValue =
      options:
      assert options == { };
      set:
      lib.concatStrings (
        lib.mapAttrsToList (
          key: value: "${key}=${if isBool value then toJSON value else toString value}\n"
        ) set
      );
    importTOML = file: builtins.fromTOML (readFile file);

    versionAtLeast = version: least: compareVersions version least >= 0;
    versions.major = version: head (lib.splitString "." version);
  };
in
lib
