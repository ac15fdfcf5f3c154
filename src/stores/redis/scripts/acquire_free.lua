-- The way of a key that nobody has, which is two commands shorter than looking first: the record is written where
-- there is none, and the fence tells what it was. Where that is not behind the clock, both are put back, and the long
-- way decides. Since Redis 7, which tells scripts its version; before, SET may not know GET. KEYS, ARGV and the
-- answer are those of acquire.lua. No function is made here: that costs more than using it once.
if ARGV[1] == '0' and redis.REDIS_VERSION_NUM then
  local time = redis.call('TIME')
  local micros = time[2]
  if #micros < 6 then micros = string.sub('000000', #micros + 1) .. micros end
  local clock, now = time[1] .. string.sub(micros, 1, 4), time[1] .. string.sub(micros, 1, 3)
  local expires = string.format('%.0f', now + ARGV[3])
  local record = '{"lockId":"' .. ARGV[2] .. '","expiresAtMs":' .. expires .. ',"acquiredAtMs":' .. now
    .. ',"key":' .. ARGV[4] .. ',"fence":"0' .. clock .. '"}'
  if #clock == 14 and redis.call('SET', KEYS[1], record, 'PX', ARGV[3], 'NX') then
    local previous = redis.pcall('SET', KEYS[2], clock, 'GET')
    if not previous
      or (type(previous) == 'string' and #previous == 14 and previous < clock and not string.find(previous, '%D'))
    then
      if KEYS[3] then redis.call('SET', KEYS[3], KEYS[1], 'PX', ARGV[3]) end
      return { 1, clock, now, expires }
    end
    -- No lease without its fence, also where this user may delete nothing.
    if type(previous) == 'string' then redis.call('SET', KEYS[2], previous) end
    local deleted = redis.pcall('DEL', KEYS[1])
    if type(deleted) == 'table' then
      redis.call('SET', KEYS[1], record, 'PX', 1)
      return deleted
    end
  end
end
