-- KEYS: lock, fence, and reverse mapping unless another node of a cluster has it.
-- ARGV: for how long the fence stays in ms ('0': for ever), lock id, ttl in ms, key as JSON text.
-- Granted { 1, fence, acquired, expires }, held { 0, free in ms }, unreadable { -1 to -3, storage key }.
local found = redis.call('MGET', KEYS[1], KEYS[2])
local clock, now, now_text = read_clock()
if found[1] then
  local id, expires, acquired, _, fence = parse_record(found[1])
  if not id then return { -1, KEYS[1] } end
  if is_live(expires, now) then
    if id == ARGV[2] then return again(KEYS[1], KEYS[3], found[1], fence, acquired, expires) end
    return held(KEYS[1], expires, now)
  end
end
return grant(KEYS[1], KEYS[2], KEYS[3], ARGV[2], ARGV[3], ARGV[4], found[1], found[2], clock, now,
  now_text, ARGV[1])
