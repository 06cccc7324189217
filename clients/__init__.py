"""The hospital's side: a thin Flower ClientApp and the site worker behind it."""
