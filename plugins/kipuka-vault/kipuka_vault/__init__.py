"""kipuka-vault: certificates by the PKI engine of Vault or OpenBao. The plugin is :mod:`kipuka_vault.plugin`."""
