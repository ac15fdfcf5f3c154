-- Locks whose keys begin with $1, after the key $2, in the order of their keys, $3 at most.
SELECT l.key, l.lock_id AS holder, l.expires_at_ms, l.acquired_at_ms, l.fence, l.user_key AS stored_key,
       floor(date_part('epoch', clock_timestamp()) * 1000)::bigint AS now_ms
FROM {locks} l WHERE l.key > $2::text AND left(l.key, length($1::text)) = $1::text
ORDER BY l.key LIMIT $3::bigint
