-- Mints a fence and writes lock and reverse mapping, where that lies on this server. `stored` is what lies at the lock: a record that is
-- no longer live, or false. MGET shows other types as absent, so absent keys are written with NX.
local function grant(lock, fence, index, id, ttl, key, stored, previous, clock, now)
  local value = clock
  if previous then
    if #previous > 15 or not string.find(previous, '^%d+$') then return { -2, fence } end
    local successor = tonumber(previous) + 1
    if successor > value then value = successor end
  end
  if value > 900000000000000 then return { -3, fence } end
  local digits = string.format('%.0f', value)
  if previous then
    redis.call('SET', fence, digits)
  elseif not redis.call('SET', fence, digits, 'NX') then
    return { -2, fence }
  end
  local expires = now + ttl
  local record = format_record(id, expires, now, key, string.rep('0', 15 - #digits) .. digits)
  if stored then
    redis.call('SET', lock, record, 'PX', ttl)
  elseif not redis.call('SET', lock, record, 'PX', ttl, 'NX') then
    return { -1, lock }
  end
  if index then redis.call('SET', index, lock, 'PX', ttl) end
  return { 1, value, now, expires }
end

-- The answer to whoever meets a live lock. The key vanishes at its PX, before the tolerance has passed.
local function held(lock, expires, now)
  local free = expires + 1000 - now
  local left = redis.call('PTTL', lock)
  if left >= 0 and left < free then free = left end
  return { 0, free }
end
