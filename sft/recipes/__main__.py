"""``python -m sft.recipes > recipes/recipe.schema.json`` rewrites the schema that editors read."""

import sys

from sft.recipes.schema import schema_text

if __name__ == "__main__":
    sys.stdout.write(schema_text())
