"""The enclave programs under Gramine 1.9: a template for each, rendered, checked and started here."""
