-- However many messages analytics has refused, or one user has sent, the next are found at once.
DROP INDEX chat.outbox_of_user;
CREATE INDEX outbox_of_user ON chat.outbox (user_id, seq) WHERE NOT refused;
CREATE INDEX outbox_to_send ON chat.outbox (seq) WHERE NOT refused;
