-- KEYS: locks, reverse mappings. ARGV of each: lock id. A lock may be there several times.
-- The time in ms, and for each: released 1, no longer live 2, gone with an earlier one of them 0, or false for
-- what release.lua has to decide: what is not there, not its own, or can't be read.
local count = #ARGV
local found = redis.call('MGET', unpack(KEYS, 1, count))
local _, now, now_text = read_clock()
local answers, gone, released, last = { now_text }, {}, {}, 0
for i = 1, count do
  local answer = false
  if released[KEYS[i]] then
    answer = 0
  elseif found[i] then
    local id, expires = own_record(found[i], ARGV[i])
    if not id then id, expires = parse_record(found[i]) end
    if id == ARGV[i] then
      answer = 2
      if is_live(expires, now) then
        answer = 1
        released[KEYS[i]] = true
        gone[last + 1], gone[last + 2] = KEYS[i], KEYS[count + i]
        last = last + 2
      end
    end
  end
  answers[i + 1] = answer
end
-- In one step, so that a script that fails has released nothing.
if last > 0 then redis.call('DEL', unpack(gone)) end
for i = 1, last, 2 do wake(gone[i], '') end
return answers
