"""From an expert's behaviour to demonstrations: the page to write on, and correction rounds."""
