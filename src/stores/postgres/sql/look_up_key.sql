SELECT l.key, l.lock_id AS holder, l.expires_at_ms, l.acquired_at_ms, l.fence, l.user_key AS stored_key,
       floor(date_part('epoch', clock_timestamp()) * 1000)::bigint AS now_ms
FROM {locks} l WHERE l.key = $1::text
