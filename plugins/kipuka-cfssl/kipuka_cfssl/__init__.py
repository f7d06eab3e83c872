"""kipuka-cfssl: certificates by a CFSSL server. The plugin is :mod:`kipuka_cfssl.plugin`."""
