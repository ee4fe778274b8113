-- what happens between the first export and the second, a day later
set names utf8mb4;
set @merge_time  = 1760040000;
set @delete_time = 1760050000;
set @now         = 1760080000;      -- time at which credit is granted
set @hl          = 604800;          -- CREDIT_HALF_LIFE

-- ---- sched/credit.cpp grant_credit() with lib/util.cpp update_average()
delimiter //
create function upd_avg(now_ double, start_ double, work_ double, avg_ double, avg_time_ double) returns double deterministic
begin
  declare diff, w double;
  if avg_time_ <> 0 then
    set diff = greatest(now_ - avg_time_, 0);
    set w = exp(-diff*ln(2)/@hl);
    if 1-w > 1e-6 then
      return avg_*w + (1-w)*(work_/(diff/86400));
    end if;
    return avg_*w + ln(2)*work_*86400/@hl;
  elseif work_ <> 0 then
    return work_/((now_ - start_)/86400);
  end if;
  return avg_;
end//
create procedure grant_credit(hid int, start_ double, credit double)
begin
  declare uid, tid int;
  select userid into uid from host where id = hid;
  select teamid into tid from user where id = uid;
  update host set expavg_credit = upd_avg(@now, start_, credit, expavg_credit, expavg_time), expavg_time = @now,
    total_credit = total_credit + credit, rpc_seqno = rpc_seqno + 1, rpc_time = @now - 100 where id = hid;
  update user set expavg_credit = upd_avg(@now, start_, credit, expavg_credit, expavg_time), expavg_time = @now,
    total_credit = total_credit + credit where id = uid;
  if tid <> 0 then
    update team set expavg_credit = upd_avg(@now, start_, credit, expavg_credit, expavg_time), expavg_time = @now,
      total_credit = total_credit + credit where id = tid;
  end if;
end//
delimiter ;

-- ---- html/inc/host.inc merge_hosts(old = 2, new = 1)
--   the average of both decays to now; the new host gets both totals and averages;
--   results move; the old host becomes a "zombie" (userid=0, rpc_seqno = new host's ID), its credit 0.
select total_credit, upd_avg(@merge_time, 0, 0, expavg_credit, expavg_time) into @old_total, @old_avg from host where id = 2;
select total_credit, upd_avg(@merge_time, 0, 0, expavg_credit, expavg_time) into @new_total, @new_avg from host where id = 1;
update host set total_credit = @old_total + @new_total, expavg_credit = @old_avg + @new_avg, expavg_time = @merge_time where id = 1;
update result set hostid = 1 where hostid = 2;
update host set total_credit = 0, expavg_credit = 0, userid = 0, rpc_seqno = 1 where id = 2;

-- ---- html/inc/delete_account.inc wipe_account(user 4)
-- invalidate_authenticator
update user set authenticator = concat('deleted_', @delete_time, '_0123456789abcdef0123456789abcdef') where id = 4;
-- insert_deleted_records
insert into user_deleted (userid, public_cross_project_id, create_time)
  select id, md5(concat(cross_project_id, email_addr)), @delete_time from user where id = 4;
insert into host_deleted select id, host_cpid, @delete_time from host where userid = 4;
-- delete_remote_submit_user
delete from user_submit where user_id = 4;
delete from user_submit_app where user_id = 4;
-- user_erase_team_owner, user_quit_team, user_erase_team_delta
update team t join user u on t.id = u.teamid and t.userid = u.id set t.userid = 0 where u.id = 4;
set @tid = (select teamid from user where id = 4);
set @ucredit = (select total_credit from user where id = 4);
update user set teamid = 0 where id = 4;
update team set ping_user = -ping_user where id = @tid and ping_user = 4;
delete from team_admin where teamid = @tid and userid = 4;
insert into team_delta (userid, teamid, timestamp, joining, total_credit) select 4, @tid, @delete_time, 0, @ucredit from dual where @tid <> 0;
delete from team_delta where userid = 4;
--
delete from credited_job where userid = 4;
delete from donation_paypal where userid = 4;
delete from banishment_vote where userid = 4;
delete from post_ratings where post in (select id from post where user = 4);
delete from post_ratings where user = 4;
delete from msg_from_host where hostid in (select id from host where userid = 4);
delete from msg_to_host where hostid in (select id from host where userid = 4);
delete from sent_email where userid = 4;
-- cancel_results_for_user: (there are no results)
delete from host_app_version where host_id in (select id from host where userid = 4);
delete from host where userid = 4;
delete from consent where userid = 4;
delete from team_admin where userid = 4;
-- delete_user: delete_profile, forum_delete_user, ...
delete from profile where userid = 4;
delete from post where user = 4;
delete from subscriptions where userid = 4;
delete from forum_preferences where userid = 4;
delete from forum_logging where userid = 4;
delete from private_messages where userid = 4 or senderid = 4;
delete from notify where userid = 4;
delete from credit_user where userid = 4;
delete from badge_user where user_id = 4;
delete from friend where user_src = 4 or user_dest = 4;
delete from token where userid = 4;
delete from user where id = 4;

-- ---- user 3 shows hosts
update user set show_hosts = 1 where id = 3;

-- ---- a new user with a new host (as make_user and the scheduler make them, no credit yet)
insert into user
 (id, create_time, email_addr, name, authenticator, country, postal_code,
  total_credit, expavg_credit, expavg_time, global_prefs, project_prefs, teamid, venue, url,
  send_email, show_hosts, posts, seti_id, seti_nresults, seti_last_result_time, seti_total_cpu,
  signature, has_profile, cross_project_id, passwd_hash, email_validated, donated)
values
 (8, 1760010008, 'newcomer@example.org', 'Newcomer', 'a0000000000000000000000000000008', 'International', '',
  0, 0, 1760010008, '', '', 0, '', 'ethereum:0x976EA74026E726554dB657fA54763abd0C3a0aa9',
  1, 1, 0, 0, 0, 0, 0, '', 0, '10000000000000000000000000000008', 'not-a-hash', 1, 0);
insert into host
 (id, create_time, userid, rpc_seqno, rpc_time, total_credit, expavg_credit, expavg_time,
  timezone, domain_name, serialnum, last_ip_addr, nsame_ip_addr,
  on_frac, connected_frac, active_frac, cpu_efficiency, duration_correction_factor,
  p_ncpus, p_vendor, p_model, p_fpops, p_iops, p_membw, os_name, os_version,
  m_nbytes, m_cache, m_swap, d_total, d_free, d_boinc_used_total, d_boinc_used_project, d_boinc_max,
  n_bwup, n_bwdown, credit_per_cpu_sec, venue, nresults_today, avg_turnaround,
  host_cpid, external_ip_addr, max_results_day, error_rate, product_name, gpu_active_frac, p_ngpus, p_gpu_fpops, misc)
values
 (11, 1760010111, 8, 1, 1760010111, 0, 0, 0,
  3600, 'newbox', '[BOINC|8.2.5]', '192.0.2.11', 0, 1, 1, 1, 0, 1,
  12, 'AuthenticAMD', 'AMD Ryzen 5 5600X 6-Core Processor [Family 25 Model 33 Stepping 2]', 4900000000, 19000000000, 1000000000, 'Linux Debian', 'Debian GNU/Linux 13 (trixie) [6.12.41|libc 2.41]',
  33554432000, 524288, 0, 1000000000000, 900000000000, 1000000000, 500000000, 100000000000,
  0, 0, 0, '', 1, 0,
  md5(concat('20000000000000000000000000000011','newcomer@example.org')), '192.0.2.11', 0, 0, '', 0, 0, 0, '');

-- ---- credit
call grant_credit(1,  1760000000, 250);
call grant_credit(3,  1760000000, 0.5);
call grant_credit(7,  1760000000, 50);
call grant_credit(9,  1760000000, 150);
call grant_credit(11, 1760010111, 75.125);

drop procedure grant_credit;
drop function upd_avg;
