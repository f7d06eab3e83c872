"""kipuka-hsm: CA keys in PKCS#11 tokens.

Empty on purpose: signer processes import from this package, and start the faster the less comes with it. The plugin is
:mod:`kipuka_hsm.plugin`.
"""
