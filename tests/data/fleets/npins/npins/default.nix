# Stands for what npins writes: an attribute set of sources.
{
  colmena.outPath = toString ../colmena;
}
