# The modules of the stand-in: options and definitions of all modules, each option merged by its type. Priorities, orders,
# mkIf and mkMerge as the manual of NixOS says, at every place where a definition is one of an option or above one.
lib:
let
  inherit (builtins)
    attrNames
    concatMap
    filter
    foldl'
    functionArgs
    head
    isAttrs
    isFunction
    length
    mapAttrs
    sort
    toJSON
    zipAttrsWith
    ;
  kind = value: if isAttrs value then value._type or "" else "";
  showOption = builtins.concatStringsSep ".";
  stop = place: said: throw "The option `${showOption place}' ${said}.";
  isOption = value: kind value == "option";
  reversed = foldl' (list: each: [ each ] ++ list) [ ];
  properties = [ "if" "merge" "order" "override" ];
  among = names: set: removeAttrs set names == { };

  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkOrder = order: content: { _type = "order"; inherit order content; };
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };

  # What is defined above options: sets without properties. Each key has the condition of the whole.
  spread =
    place: value:
    if kind value == "merge" then
      concatMap (spread place) value.contents
    else if kind value == "if" then
      map (mapAttrs (_: mkIf value.condition)) (spread place value.content)
    else if isAttrs value && kind value == "" then
      [ value ]
    else
      stop place "is no set of options here, or has a property that nothing here needs";

  # What is defined for one option: values without properties, those of the best priority, in their order.
  discharge =
    value:
    if kind value == "merge" then
      concatMap discharge value.contents
    else if kind value == "if" then
      (if value.condition then discharge value.content else [ ])
    else
      [ value ];
  settled =
    place: values:
    let
      found = concatMap discharge values;
      priority = value: if kind value == "override" then value.priority else 100;
      best = foldl' (least: value: if priority value < least then priority value else least) 9999 found;
      kept = map (value: if kind value == "override" then value.content else value) (
        filter (value: priority value == best) found
      );
      order = value: if kind value == "order" then value.order else 1000;
      inOrder = map (value: if kind value == "order" then value.content else value) (
        sort (one: other: order one < order other) kept
      );
    in
    if builtins.any (value: builtins.elem (kind value) properties) inOrder then
      stop place "has properties in an order that means nothing"
    else
      inOrder;

  # The one value that these definitions make, and whether there are any.
  merged =
    place: type: values:
    let
      found = settled place values;
      wrong = filter (value: !type.check value) found;
    in
    {
      isDefined = found != [ ];
      value =
        if found == [ ] then
          stop place "is used, and nobody has defined it"
        else if wrong != [ ] then
          stop place "has a value that is not of type `${type.description}': ${builtins.typeOf (head wrong)}"
        else
          type.merge place (map (value: { inherit value; }) found);
    };

  evaluated =
    place: option: values:
    let
      default = if option ? default then [ (mkOverride 1500 option.default) ] else [ ];
      result = merged place option.type (default ++ values);
    in
    option
    // {
      loc = place;
      inherit (result) isDefined;
      value =
        if option.readOnly or false && values != [ ] then
          stop place "is read-only"
        else
          (option.apply or (value: value)) result.value;
    };

  valuesOf = name: concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]);
  below = place: name: definitions: concatMap (spread (place ++ [ name ])) (valuesOf name definitions);

  # `declared`: sets of options. `definitions`: sets without properties. Every option there is, evaluated.
  tree =
    place: declared: definitions:
    zipAttrsWith (
      name: found:
      let
        here = place ++ [ name ];
      in
      if !builtins.any isOption found then
        tree here found (below place name definitions)
      else if length found == 1 then
        evaluated here (head found) (valuesOf name definitions)
      else
        stop here "is declared twice"
    ) declared;
  # The values of options, in the place where each is, beside what is of no option.
  config =
    free: nodes:
    free // mapAttrs (name: node: if isOption node then node.value else config (free.${name} or { }) node) nodes;

  # What is defined and not declared: the places, each with its definitions.
  strays =
    place: declared: definitions:
    concatMap (
      name:
      let
        found = valuesOf name declared;
        here = place ++ [ name ];
      in
      if found == [ ] then
        [ { place = here; contents = valuesOf name definitions; } ]
      else if builtins.any isOption found then
        [ ]
      else
        strays here found (below place name definitions)
    ) (attrNames (foldl' (all: set: all // set) { } definitions));

  # A module as { key, imports, options, config }, whatever it was written as. The key is its file, if it has one.
  unified =
    known: arguments: module:
    let
      made =
        if isFunction module then
          module (known // mapAttrs (name: _: known.${name} or arguments.${name}) (functionArgs module))
        else
          module;
      isLong = made ? config || made ? options;
    in
    if builtins.isPath module || builtins.isString module then
      unified known arguments (import module) // { key = toString module; }
    else if !isAttrs made then
      throw "A module is a ${builtins.typeOf made}."
    else if isLong && !among [ "imports" "options" "config" "freeformType" ] made then
      throw "A module has `config' or `options', and more beside them: ${toJSON (attrNames made)}"
    else
      {
        key = null;
        imports = made.imports or [ ];
        options = made.options or { };
        config = mkMerge (
          [ (made.config or (if isLong then { } else removeAttrs made [ "imports" "freeformType" ])) ]
          ++ (if made ? freeformType then [ { _module = { inherit (made) freeformType; }; } ] else [ ])
        );
      };

  # Level by level: the modules, what they import, what those import. Each file counts once.
  levels =
    open: seen: modules:
    let
      isNew = keys: module: module.key == null || !builtins.elem module.key keys;
      keysOf = map (module: module.key);
      add = list: module: if isNew (seen ++ keysOf list) module then list ++ [ module ] else list;
      fresh = foldl' add [ ] modules;
    in
    if fresh == [ ] then
      [ ]
    else
      fresh ++ levels open (seen ++ keysOf fresh) (concatMap (module: map open module.imports) fresh);

  own.options._module = {
    args = mkOption {
      type = lib.types.attrsOf lib.types.raw;
      default = { };
    };
    freeformType = mkOption {
      type = lib.types.nullOr lib.types.raw;
      default = null;
    };
  };
  within = value: place: foldl' (inner: name: { ${name} = inner; }) value (reversed place);

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      known = { inherit lib options; config = values; } // specialArgs;
      open = unified known options._module.args.value;
      # What is imported comes first, and of several modules the last.
      found = reversed (levels open [ ] (map open (modules ++ [ own ])));
      declared = map (module: module.options) found;
      definitions = concatMap (module: spread prefix module.config) found;
      options = tree prefix declared definitions;
      undeclared = strays [ ] declared definitions;
      freeform = options._module.freeformType.value;
      free = map (stray: within (mkMerge stray.contents) stray.place) undeclared;
      values = config (if freeform == null || free == [ ] then { } else (merged prefix freeform free).value) options;
    in
    {
      inherit options;
      config =
        if freeform == null && undeclared != [ ] then
          stop (prefix ++ (head undeclared).place) "does not exist"
        else
          removeAttrs values [ "_module" ];
    };

  mkOption =
    option:
    let
      keys = [ "apply" "default" "defaultText" "description" "example" "internal" "readOnly" "type" ];
    in
    if !among keys option then
      throw "mkOption: one of ${toJSON (attrNames option)} is not known here"
    else if !(option ? type) then
      throw "mkOption: an option has no type"
    else
      { _type = "option"; } // option;

  mergeOneOption =
    place: definitions:
    if length definitions == 1 then (head definitions).value else stop place "is defined several times";
in
{
  inherit
    evalModules
    isOption
    merged
    mergeOneOption
    mkIf
    mkMerge
    mkOption
    mkOrder
    mkOverride
    showOption
    stop
    ;
  mkAfter = mkOrder 1500;
  mkBefore = mkOrder 500;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkOptionType = { name, description ? name, check ? (_: true), merge ? mergeOneOption }: {
    _type = "option-type";
    inherit name description check merge;
  };
}
