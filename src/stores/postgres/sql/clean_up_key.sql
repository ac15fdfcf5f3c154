-- A record that expired over two seconds ago, and that can be read.
DELETE FROM {locks} l
USING (SELECT floor(date_part('epoch', clock_timestamp()) * 1000)::bigint AS now_ms) clock
WHERE l.key = $1::text AND l.expires_at_ms < clock.now_ms - 2000 AND l.lock_id = $2::text
  AND {readable_row}
