# The types of the stand-in. Definitions that differ are an error, but of lists and sets, which are joined.
lib:
let
  inherit (import ./modules.nix lib) evalModules merged mkOptionType stop;
  inherit (builtins)
    all
    concatLists
    concatStringsSep
    elem
    filter
    foldl'
    genList
    head
    elemAt
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    length
    mapAttrs
    match
    substring
    tail
    zipAttrsWith
    ;
  valuesOf = map (definition: definition.value);

  equal =
    place: definitions:
    let
      values = valuesOf definitions;
    in
    if all (value: value == head values) values then head values else stop place "is defined with different values";
  atom = name: check: mkOptionType { inherit name check; merge = equal; };
  isDerivation = value: isAttrs value && value.type or "" == "derivation";
  whole = description: check: atom "int" (value: isInt value && check value) // { inherit description; };

  types = {
    bool = atom "bool" isBool // { description = "boolean"; };
    float = atom "float" isFloat;
    int = whole "signed integer" (_: true);
    ints = {
      between = low: high: whole "integer between ${toString low} and ${toString high}" (value: low <= value && value <= high);
      positive = whole "positive integer" (value: value > 0);
    };
    str = atom "str" isString // { description = "string"; };
    nonEmptyStr = atom "nonEmptyStr" (value: isString value && match "[ \t\n]*" value == null) // {
      description = "non-empty string";
    };
    strMatching = pattern: atom "strMatching" (value: isString value && match pattern value != null) // {
      description = "string matching ${pattern}";
    };
    singleLineStr = types.strMatching "[^\n\r]*\n?" // {
      description = "string of one line";
      merge = place: definitions: lib.removeSuffix "\n" (equal place definitions);
    };
    lines = types.str // {
      description = "lines";
      merge = _: definitions: concatStringsSep "\n" (valuesOf definitions);
    };
    path = atom "path" (value: (isString value || isPath value || isDerivation value) && substring 0 1 (toString value) == "/") // {
      description = "absolute path";
    };
    enum = words: atom "enum" (value: elem value words) // { description = "one of ${builtins.toJSON words}"; };

    # One definition, of whatever is in it.
    package = mkOptionType { name = "package"; check = isDerivation; };
    raw = mkOptionType { name = "raw"; };
    unspecified = mkOptionType { name = "unspecified"; };
    # Sets are joined, all else has to be equal. The real one joins functions too.
    anything = mkOptionType {
      name = "anything";
      merge =
        place: definitions:
        let
          isSet = definition: isAttrs definition.value && !isDerivation definition.value;
        in
        if length definitions == 1 && !isSet (head definitions) then
          (head definitions).value
        else if all isSet definitions then
          (types.attrsOf types.anything).merge place definitions
        else
          equal place definitions;
    };
    attrs = mkOptionType {
      name = "attrs";
      check = isAttrs;
      merge = _: definitions: foldl' (all: set: all // set) { } (valuesOf definitions);
    };

    nullOr =
      type:
      mkOptionType {
        name = "nullOr";
        description = "null or ${type.description}";
        check = value: value == null || type.check value;
        merge =
          place: definitions:
          let
            nulls = filter (value: value == null) (valuesOf definitions);
          in
          if nulls == [ ] then type.merge place definitions
          else if length nulls == length definitions then null
          else stop place "is null and something else";
      };
    either =
      one: other:
      mkOptionType {
        name = "either";
        description = "${one.description} or ${other.description}";
        check = value: one.check value || other.check value;
        merge =
          place: definitions:
          let
            values = valuesOf definitions;
          in
          if all one.check values then one.merge place definitions
          else if all other.check values then other.merge place definitions
          else stop place "is defined with values of different types";
      };
    oneOf = several: foldl' types.either (head several) (tail several);

    listOf =
      type:
      mkOptionType {
        name = "listOf";
        description = "list of ${type.description}";
        check = isList;
        merge =
          place: definitions:
          let
            values = concatLists (valuesOf definitions);
            each = genList (at: merged (place ++ [ "#${toString at}" ]) type [ (elemAt values at) ]) (length values);
          in
          map (one: one.value) (filter (one: one.isDefined) each);
      };
    nonEmptyListOf =
      type:
      types.listOf type
      // {
        description = "non-empty list of ${type.description}";
        check = value: isList value && value != [ ];
      };
    attrsOf =
      type:
      mkOptionType {
        name = "attrsOf";
        description = "attribute set of ${type.description}";
        check = isAttrs;
        merge =
          place: definitions:
          let
            each = zipAttrsWith (name: values: merged (place ++ [ name ]) type values) (valuesOf definitions);
          in
          mapAttrs (_: one: one.value) (lib.filterAttrs (_: one: one.isDefined) each);
      };
    submodule =
      module:
      mkOptionType {
        name = "submodule";
        check = value: isAttrs value || isFunction value;
        merge =
          place: definitions:
          (evalModules {
            modules = [ module ] ++ map (value: if isAttrs value then { config = value; } else value) (valuesOf definitions);
            prefix = place;
            specialArgs.name = elemAt place (length place - 1);
          }).config;
      };
  };
in
types
