"""The stand-in for nixpkgs' lib: strict by itself, and never kinder than the real one where that is there."""

from __future__ import annotations

import random
import shutil

import pytest

from tests.nixos_modules import LIB, STAND_IN, RefusedError, needs_lib, value_by, value_of

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
OPTIONS = """{
  options.name = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; };
  options.text = lib.mkOption { type = lib.types.lines; default = "none"; };
  options.bare = lib.mkOption { type = lib.types.int; };
  options.fixed = lib.mkOption { type = lib.types.int; default = 1; readOnly = true; };
  options.deep.list = lib.mkOption { type = lib.types.listOf lib.types.int; default = [ 0 ]; };
  options.deep.lists = lib.mkOption { type = lib.types.attrsOf (lib.types.listOf lib.types.int); default = { }; };
  options.mixed = lib.mkOption { type = with lib.types; either int (listOf int); default = 0; };
  options.free = lib.mkOption {
    default = { };
    type = lib.types.submodule {
      freeformType = lib.types.attrsOf lib.types.int;
      options.list = lib.mkOption { type = lib.types.listOf lib.types.int; default = [ 5 ]; };
    };
  };
  options.each = lib.mkOption {
    default = { };
    type = lib.types.attrsOf (lib.types.submodule ({ name, config, ... }: {
      options.name = lib.mkOption { type = lib.types.str; default = name; };
      options.size = lib.mkOption { type = lib.types.ints.positive; default = 7; };
      options.list = lib.mkOption { type = lib.types.listOf lib.types.int; default = [ ]; };
      config = lib.mkIf (config.size > 7) { list = lib.mkDefault [ 9 ]; };
    }));
  };
}"""
SEEN = "{ inherit (c) name text fixed deep mixed free each; }"


def merged(definitions: str, seen: str = SEEN) -> str:
    return f"let c = (lib.evalModules {{ modules = [ {OPTIONS} {definitions} ]; }}).config; in {seen}"


@pytest.mark.parametrize(
    ("definitions", "words"),
    [
        ("{ nmae = null; }", "`nmae' does not exist"),
        ("{ deep.lsit = [ ]; }", "`deep.lsit' does not exist"),
        ("{ nmae = lib.mkIf false null; }", "`nmae' does not exist"),
        ("{ each.a.sise = 1; }", "`each.a.sise' does not exist"),
        ("{ name = 1; }", "`name' has a value that is not of type `null or string'"),
        ('{ deep.list = [ "1" ]; }', "`deep.list.#0' has a value that is not of type `signed integer'"),
        ("{ each.a.size = 0; }", "`each.a.size' has a value that is not of type `positive integer'"),
        ('{ name = "a"; } { name = "b"; }', "`name' is defined with different values"),
        ('{ name = "a"; } { name = null; }', "`name' is null and something else"),
        ("{ mixed = 1; } { mixed = [ 1 ]; }", "`mixed' is defined with values of different types"),
        ("{ fixed = 2; }", "`fixed' is read-only"),
        ('{ name = lib.mkForce (lib.mkIf true "a"); }', "`name' has properties in an order that means nothing"),
        ("{ deep = lib.mkForce { list = [ ]; }; }", "`deep' is no set of options here"),
        ("{ config = { }; name = null; }", "A module has `config' or `options', and more beside them"),
        ("3", "A module is a int"),
        ("{ options.name = lib.mkOption { type = lib.types.str; }; }", "`name' is declared twice"),
        ("{ options.more = lib.mkOption { default = 1; }; }", "an option has no type"),
        ("{ options.more = lib.mkOption { type = lib.types.int; defualt = 1; }; }", "is not known here"),
        ("{ options.more = lib.mkOption { type = lib.types.port; default = 1; }; }", "attribute 'port' missing"),
        ("{ name = lib.toUpper null; }", "attribute 'toUpper' missing"),
    ],
)
def test_whatever_it_does_not_know_is_an_error(definitions: str, words: str) -> None:
    with pytest.raises(RefusedError) as refused:
        value_by(STAND_IN, merged(definitions, 'builtins.deepSeq (removeAttrs c [ "bare" ]) 1'))
    assert words in str(refused.value)


def test_option_that_nobody_has_defined_is_an_error_where_it_is_used() -> None:
    value_of(merged("{ }"))
    with pytest.raises(RefusedError, match="bare"):
        value_of(merged("{ }", "c.bare"))


def test_definitions_are_merged_as_the_manual_says() -> None:
    found = value_of(
        merged("""
          ({ config, lib, ... }: { text = lib.mkAfter "end"; deep.list = lib.mkIf (config.name == "b") [ 1 ]; })
          { name = lib.mkDefault "a"; text = "middle"; deep.lists = { x = [ 1 ]; y = lib.mkForce [ 2 ]; }; }
          { name = "b"; text = lib.mkBefore "begin"; deep.lists = { x = [ 3 ]; y = [ 4 ]; z = lib.mkIf false [ ]; }; }
          { imports = [ { each.a = { size = 8; }; each.b.list = [ 1 ]; } ]; free.other = 1; free.list = [ 6 ]; }
        """)
    )
    assert found == {
        "name": "b", "text": "begin\nmiddle\nend", "fixed": 1, "mixed": 0, "free": {"list": [6], "other": 1},
        "deep": {"list": [1], "lists": {"x": [3, 1], "y": [2]}},
        "each": {"a": {"list": [9], "name": "a", "size": 8}, "b": {"list": [1], "name": "b", "size": 7}},
    }  # fmt: skip


def test_functions_give_what_those_of_nixpkgs_give() -> None:
    value_of("""
      map lib.escapeShellArg [ "a" "a b" "" "it's" "x=y" "ä" 1 ]
      ++ map (lib.splitString ".") [ "" "." "a.b" "a..b." ]
      ++ map (text: [ (lib.hasPrefix "ab" text) (lib.hasSuffix "ab" text) ]) [ "ab" "xab" "abx" "b" "" ]
      ++ map (lib.hasInfix "a.b") [ "a.b" "xa.by" "acb" "" ]
      ++ map (lib.removeSuffix "ab") [ "ab" "xab" "b" "" ]
      ++ map lib.fromHexString [ "0" "1f" "00ff" ]
      ++ map (package: [ (lib.getName package) (lib.getVersion package) ]) [ "a-b-1.2" { pname = "a"; version = "2"; } ]
      ++ map lib.toList [ [ ] [ 1 ] 2 ]
      ++ [ (lib.mod 7 3) (lib.mod 6 3) (lib.last [ 1 2 ]) (lib.concatMapStringsSep "," toString [ 1 2 ]) ]
      ++ map lib.toIntBase10 [ "0" "007" "10" ]
      ++ map lib.escapeRegex [ "" "a.b*c?[d]{e}(f)|^$+\\\\" ]
      ++ map (number: lib.take number [ 1 2 3 ]) [ 0 2 5 ]
      ++ [
        (lib.intersectLists [ 1 2 3 ] [ 3 4 1 ]) (lib.unique [ 3 1 3 2 1 ]) (lib.remove 1 [ 1 2 1 ])
        (lib.allUnique [ 1 1 ]) (lib.allUnique [ ]) (lib.optionals false [ 1 ]) (lib.optionalAttrs true { a = 1; })
        (lib.generators.toKeyValue { } { a = 1; b = true; c = "x"; }) (lib.versions.major "12.9")
        (lib.versionAtLeast "580.95.05" "580.95.5") (lib.versionAtLeast "1.9" "1.10") (lib.concatLines [ "a" "b" ])
        (lib.escapeShellArgs [ "a" "b c" ]) (lib.strings.toJSON "a\\"b") (lib.boolToYesNo true)
        (lib.mapAttrs' (name: value: lib.nameValuePair "x${name}" value) { a = 1; })
        (lib.filterAttrs (name: value: name == "a" || value > 1) { a = 1; b = 1; c = 2; })
        (lib.genAttrs [ "a" ] (name: name + name))
        (lib.getExe { meta.mainProgram = "x"; outPath = "/p"; type = "derivation"; })
      ]
    """)


def wrapped(dice: random.Random, value: str, kinds: str = "-imo") -> str:
    """The definition with properties, in an order that means something."""
    kind = dice.choice(kinds)
    if kind == "m":
        return f"(lib.mkMerge [ {wrapped(dice, value, '-io')} {wrapped(dice, value, '-o')} ])"
    if kind == "i":
        condition = dice.choice(["true", "true", "false", "config.fixed == 1"])
        return f"(lib.mkIf ({condition}) {wrapped(dice, value, kinds)})"
    if kind == "o":
        value = f"(lib.{dice.choice(['mkBefore', 'mkAfter'])} {value})" if value[0] in '["' else value
        return f"(lib.{dice.choice(['id', 'mkDefault', 'mkForce', 'mkOverride 100'])} {value})"
    return value


def written(dice: random.Random) -> str:
    """A module that defines one thing or two."""
    rows = []
    for _ in range(dice.randint(1, 2)):
        number = dice.randint(1, 9)
        right = [
            ("name", dice.choice(["null", '"a"'])), ("text", f'"{number}"'), ("deep.list", f"[ {number} ]"),
            ("deep.lists", wrapped(dice, f"{{ x = {wrapped(dice, f'[ {number} ]')}; y = [ 1 ]; }}")),
            ("deep", f"{{ list = {wrapped(dice, f'[ {number} ]')}; }}"), ("mixed", dice.choice(["1", "1", "[ 2 ]"])),
            ("free", f"{{ list = [ {number} ]; k{number} = {number}; }}"), ("free.list", f"[ {number} ]"),
            ("each.a.list", f"[ {number} ]"), ("each.b", f"{{ size = {wrapped(dice, '8')}; }}"),
            ("each", f"{{ c.list = {wrapped(dice, f'[ {number} ]')}; }}"),
        ]  # fmt: skip
        wrong = [("name", "3"), ("name", '"b"'), ("each.a", "{ size = 0; }"), ("none", "1"), ("deep.list", "[ null ]")]
        place, value = dice.choice(wrong if dice.random() < 0.1 else right)
        rows.append(f"{{ {place} = {wrapped(dice, value)}; }}")
    inner = f"imports = [ ({written(dice)}) ];" if dice.random() < 0.2 else ""
    return f"{{ config, lib, ... }}: {{ {inner} config = lib.mkMerge [ {' '.join(rows)} ]; }}"


@needs_lib
@pytest.mark.parametrize("seed", range(8))
def test_what_it_makes_of_any_modules_is_what_nixpkgs_makes_of_them_or_nothing(seed: int) -> None:
    dice = random.Random(seed)
    cases = [merged(" ".join(f"({written(dice)})" for _ in range(dice.randint(1, 4)))) for _ in range(60)]
    tried = " ".join(f"(let v = {case}; t = builtins.tryEval (builtins.deepSeq v v); in t)" for case in cases)
    ours, theirs = (value_by(lib, f"[ {tried} ]") for lib in (STAND_IN, LIB))
    taken = [(one, other, case) for one, other, case in zip(ours, theirs, cases, strict=True) if one["success"]]
    for one, other, case in taken:
        assert one == other, case
    assert len(taken) * 3 > len([one for one in theirs if one["success"]]) * 2
