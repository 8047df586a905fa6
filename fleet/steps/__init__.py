"""The steps of a run, one public function each. Every step takes the earlier step's value and returns its own."""
