"""Work items (what a service is asked to do) and the ledger entries they become."""
