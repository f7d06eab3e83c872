"""kipuka-acme: certificates from a CA that speaks ACME (RFC 8555). The plugin is :mod:`kipuka_acme.plugin`."""
