"""Side-by-side measurements, one command each."""

# Before polars, as in every process of the project: the package tells the allocators how to work.
import alpha_assets as alpha_assets
