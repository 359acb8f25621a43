"""From an expert's behaviour to demonstrations: import of existing writing, the page to write on, correction rounds."""
