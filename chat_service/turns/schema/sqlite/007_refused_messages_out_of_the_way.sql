-- However many messages analytics has refused, those to be sent are found at once.
DROP INDEX chat.outbox_of_user;
CREATE INDEX chat.outbox_of_user ON outbox (user_id) WHERE NOT refused;
CREATE INDEX chat.outbox_to_send ON outbox (seq) WHERE NOT refused;
