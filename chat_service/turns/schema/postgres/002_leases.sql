-- Not in the write-ahead log: a lease has no use after a crash, and so waits for no disk.
CREATE UNLOGGED TABLE chat.leases (
    user_id text COLLATE "C",
    session_id uuid,
    holder bigint NOT NULL,
    end_time timestamptz NOT NULL,
    PRIMARY KEY (user_id, session_id)
);
