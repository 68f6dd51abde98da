CREATE INDEX chat.outbox_of_user ON outbox (user_id, sent_time);
