-- KEYS: lock, and reverse mapping unless another node of a cluster has it. ARGV: the expired record as it was read. Deletes it if nothing changed.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if KEYS[2] and redis.call('MGET', KEYS[2])[1] == KEYS[1] then redis.call('DEL', KEYS[2]) end
return redis.call('DEL', KEYS[1])
