"""For tests, ours and those of plugin authors: a PKI in memory, sample requests, and a contract suite per port."""
