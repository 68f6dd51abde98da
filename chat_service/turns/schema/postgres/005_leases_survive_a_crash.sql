-- Whoever holds a lease can keep its turn after a crash or a failover, too.
ALTER TABLE chat.leases SET LOGGED;
