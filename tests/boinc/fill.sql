-- initial content of the project's database (first export).
-- All times are fixed: "now" of the first export is 1760000000 (2025-10-09 08:53:20 UTC).
set names utf8mb4;

insert into app (id, create_time, name, user_friendly_name) values
  (1, 1690000000, 'sample', 'Sample Application');

-- passwd_hash and authenticator are arbitrary; the public cpid of the export is md5(cross_project_id . email_addr)
insert into user
 (id, create_time, email_addr, name, authenticator, country, postal_code,
  total_credit, expavg_credit, expavg_time, global_prefs, project_prefs, teamid, venue, url,
  send_email, show_hosts, posts, seti_id, seti_nresults, seti_last_result_time, seti_total_cpu,
  signature, has_profile, cross_project_id, passwd_hash, email_validated, donated)
values
 (1, 1700000001, 'ada@example.org',    'Ada',                 'a0000000000000000000000000000001', 'International', '',
  1500.75,      15.5,   1759990001, '', '', 1, '', 'https://ada.example/?ethereum=0x70997970C51812dc3A010C7d01b50e0d17dc79C8',
  1, 1, 0, 0, 0, 0, 0, '', 0, '10000000000000000000000000000001', 'not-a-hash', 1, 0),
 (2, 1700000502, 'grace@example.org',  'Grace <&> "Ünï"',     'a0000000000000000000000000000002', 'Germany', '',
  2000.000001,  20.25,  1759990002, '', '', 1, '', 'https://grace.example/?a=1&b=2 ethereum:0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC@31337',
  1, 1, 0, 0, 0, 0, 0, '', 0, '10000000000000000000000000000002', 'not-a-hash', 1, 0),
 (3, 1700001003, 'hidden@example.org', 'Hidden',              'a0000000000000000000000000000003', '', '',
  300,          3.125,  1759990003, '', '', 0, '', 'ethereum:0x90F79bf6EB2c4f870365E785982E1f101E93b906',
  1, 0, 0, 0, 0, 0, 0, '', 0, '10000000000000000000000000000003', 'not-a-hash', 1, 0),
 (4, 1700001504, 'nobody@example.org', 'Nobody',              'a0000000000000000000000000000004', 'International', '',
  12345.6,      123.5,  1759990004, '', '', 1, '', '',
  1, 1, 0, 0, 0, 0, 0, '', 0, '10000000000000000000000000000004', 'not-a-hash', 1, 0),
 (5, 1700002005, 'typo@example.org',   'Typo',                'a0000000000000000000000000000005', 'International', '',
  40,           0.5,    1759990005, '', '', 0, '', 'ethereum:0x15d34AAf54267DB7D7c367839AAf71A00a2C6A66',
  1, 1, 0, 0, 0, 0, 0, '', 0, '10000000000000000000000000000005', 'not-a-hash', 1, 0),
 (6, 1700002506, 'fleet@example.org',  'Fleet',               'a0000000000000000000000000000006', 'United States', '',
  1000,         10,     1759990006, '', '', 0, '', 'http://fleet.example',
  1, 1, 0, 0, 0, 0, 0, '', 0, '10000000000000000000000000000006', 'not-a-hash', 1, 0),
 (7, 1700003007, 'idle@example.org',   'Idle',                'a0000000000000000000000000000007', 'International', '',
  0,            0,      1700003007, '', '', 0, '', 'ethereum:0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc',
  1, 1, 0, 0, 0, 0, 0, '', 0, '10000000000000000000000000000007', 'not-a-hash', 1, 0);

insert into team
 (id, create_time, userid, name, name_lc, url, type, name_html, description, nusers, country,
  total_credit, expavg_credit, expavg_time, seti_id, ping_user, ping_time, joinable, mod_time)
values
 (1, 1701000001, 2, 'Compilers & Co', 'compilers & co', 'team.example', 1, '', 'A team of three.', 3, 'International',
  15846.350001, 159.25, 1759990007, 0, 0, 0, 1, from_unixtime(1701000001));

-- host_cpid as the scheduler stores it: md5(the client's host CPID . email_addr).
-- merge_hosts() wants the retired record (2) to be the older of the two, and their lifetimes disjoint.
insert into host
 (id, create_time, userid, rpc_seqno, rpc_time, total_credit, expavg_credit, expavg_time,
  timezone, domain_name, serialnum, last_ip_addr, nsame_ip_addr,
  on_frac, connected_frac, active_frac, cpu_efficiency, duration_correction_factor,
  p_ncpus, p_vendor, p_model, p_fpops, p_iops, p_membw, os_name, os_version,
  m_nbytes, m_cache, m_swap, d_total, d_free, d_boinc_used_total, d_boinc_used_project, d_boinc_max,
  n_bwup, n_bwdown, credit_per_cpu_sec, venue, nresults_today, avg_turnaround,
  host_cpid, external_ip_addr, max_results_day, error_rate, product_name, gpu_active_frac, p_ngpus, p_gpu_fpops, misc)
values
 (1, 1730000101, 1, 41, 1759980001, 1000.5, 15.5, 1759990001,
  7200, 'ada-desk', '[BOINC|8.2.4]', '192.0.2.1', 10, 0.9, 0.9, 0.9, 0, 1,
  8, 'GenuineIntel', 'Intel(R) Core(TM) i7-6700 CPU @ 3.40GHz [Family 6 Model 94 Stepping 3]', 4200000000, 14000000000, 1000000000, 'Linux Debian', 'Debian GNU/Linux 12 (bookworm) [6.1.0-18-amd64|libc 2.36]',
  16777216000, 8388608, 1024000000, 500000000000, 250000000000, 1000000000, 500000000, 100000000000,
  125000.5, 1250000.25, 0, '', 3, 43200.5,
  md5(concat('20000000000000000000000000000001','ada@example.org')), '192.0.2.1', 0, 0, 'Desk 9000', 0, 0, 0, ''),
 (2, 1700000102, 1, 77, 1720000002, 500.25, 0.25, 1720000002,
  7200, 'ada-desk', '[BOINC|8.0.2]', '192.0.2.1', 12, 0.9, 0.9, 0.9, 0, 1,
  8, 'GenuineIntel', 'Intel(R) Core(TM) i7-6700 CPU @ 3.40GHz [Family 6 Model 94 Stepping 3]', 4100000000, 13000000000, 1000000000, 'Linux Debian', 'Debian GNU/Linux 11 (bullseye) [5.10.0-28-amd64|libc 2.31]',
  16777216000, 8388608, 1024000000, 500000000000, 300000000000, 1000000000, 500000000, 100000000000,
  125000.5, 1250000.25, 0, '', 0, 50000,
  md5(concat('20000000000000000000000000000002','ada@example.org')), '192.0.2.1', 0, 0, 'Desk 9000', 0, 0, 0, ''),
 (3, 1700000603, 2, 15, 1759980003, 2000.000001, 20.25, 1759990002,
  3600, 'hopper', '[BOINC|8.2.4][CUDA|NVIDIA GeForce RTX 3060|1|12288MB|55000|300]', '192.0.2.3', 5, 0.9, 0.9, 0.9, 0, 1,
  16, 'AuthenticAMD', 'AMD <Ryzen> & "friends" [x]', 5000000000, 20000000000, 1000000000, 'Linux ÄÖ', 'Ubuntu 24.04.1 LTS [6.8.0-45-generic|libc 2.39]',
  33554432000, 524288, 8589934592, 1000000000000, 750000000000, 1000000000, 500000000, 100000000000,
  0, 2500000, 0, 'home', 8, 21600.25,
  md5(concat('20000000000000000000000000000003','grace@example.org')), '192.0.2.3', 0, 0, '', 0.9, 1, 12000000000000,
  '{"gpus":[{"type":"NVIDIA","name":"GeForce RTX 3060 & co <12GB>"}]}'),
 (4, 1700001104, 3, 9, 1759980004, 300, 3.125, 1759990003,
  -18000, 'secret', '[BOINC|8.0.2]', '192.0.2.4', 2, 0.9, 0.9, 0.9, 0, 1,
  4, 'ARM', 'ARMv8 Processor rev 3 (v8l)', 1500000000, 6000000000, 1000000000, 'Linux Raspbian', 'Raspbian GNU/Linux 12 (bookworm)',
  4000000000, 0, 209715200, 32000000000, 16000000000, 1000000000, 500000000, 10000000000,
  0, 0, 0, '', 1, 86400,
  md5(concat('20000000000000000000000000000004','hidden@example.org')), '192.0.2.4', 0, 0, '', 0, 0, 0, ''),
 (5, 1700001605, 4, 500, 1759980005, 12345.6, 123.5, 1759990004,
  0, 'nobody-pc', '[BOINC|8.2.4]', '192.0.2.5', 50, 0.9, 0.9, 0.9, 0, 1,
  64, 'AuthenticAMD', 'AMD EPYC 7543 32-Core Processor [Family 25 Model 1 Stepping 1]', 4800000000, 18000000000, 1000000000, 'Microsoft Windows 11', 'Professional x64 Edition, (10.00.22631.00)',
  137438953472, 524288, 150000000000, 2000000000000, 1500000000000, 1000000000, 500000000, 100000000000,
  500000, 5000000, 0, '', 20, 7200.125,
  md5(concat('20000000000000000000000000000005','nobody@example.org')), '192.0.2.5', 0, 0, '', 0, 0, 0, ''),
 (6, 1700002106, 5, 4, 1759980006, 40, 0.5, 1759990005,
  0, 'typo-pc', '[BOINC|7.24.1]', '192.0.2.6', 1, 0.9, 0.9, 0.9, 0, 1,
  2, 'GenuineIntel', 'Intel(R) Celeron(R) N4000 CPU @ 1.10GHz [Family 6 Model 122 Stepping 1]', 1800000000, 5000000000, 1000000000, 'Microsoft Windows 10', 'Core x64 Edition, (10.00.19045.00)',
  4294967296, 4194304, 8000000000, 64000000000, 20000000000, 1000000000, 500000000, 10000000000,
  0, 800000, 0, '', 0, 172800,
  md5(concat('20000000000000000000000000000006','typo@example.org')), '192.0.2.6', 0, 0, '', 0, 0, 0, ''),
 (7, 1700002607, 6, 30, 1759980007, 100, 1, 1759990006,
  28800, 'fleet-1', '[BOINC|8.2.4]', '192.0.2.7', 3, 0.9, 0.9, 0.9, 0, 1,
  4, 'GenuineIntel', 'Intel(R) Xeon(R) CPU E3-1230 v5 @ 3.40GHz [Family 6 Model 94 Stepping 3]', 4000000000, 12000000000, 1000000000, 'Linux Debian', 'Debian GNU/Linux 12 (bookworm)',
  8589934592, 8388608, 0, 250000000000, 125000000000, 1000000000, 500000000, 100000000000,
  0, 0, 0, '', 2, 30000,
  md5(concat('20000000000000000000000000000007','fleet@example.org')), '192.0.2.7', 0, 0, '', 0, 0, 0, ''),
 (8, 1700002708, 6, 31, 1759980008, 300, 3, 1759990006,
  28800, 'fleet-2', '[BOINC|8.2.4]', '192.0.2.8', 3, 0.9, 0.9, 0.9, 0, 1,
  4, 'GenuineIntel', 'Intel(R) Xeon(R) CPU E3-1230 v5 @ 3.40GHz [Family 6 Model 94 Stepping 3]', 4000000000, 12000000000, 1000000000, 'Linux Debian', 'Debian GNU/Linux 12 (bookworm)',
  8589934592, 8388608, 0, 250000000000, 125000000000, 1000000000, 500000000, 100000000000,
  0, 0, 0, '', 2, 30000,
  md5(concat('20000000000000000000000000000008','fleet@example.org')), '192.0.2.8', 0, 0, '', 0, 0, 0, ''),
 (9, 1700002809, 6, 32, 1759980009, 600, 6, 1759990006,
  28800, 'fleet-3', '[BOINC|8.2.4]', '192.0.2.9', 3, 0.9, 0.9, 0.9, 0, 1,
  4, 'GenuineIntel', 'Intel(R) Xeon(R) CPU E3-1230 v5 @ 3.40GHz [Family 6 Model 94 Stepping 3]', 4000000000, 12000000000, 1000000000, 'Darwin', '23.6.0',
  8589934592, 8388608, 0, 250000000000, 125000000000, 1000000000, 500000000, 100000000000,
  0, 0, 0, '', 2, 30000,
  md5(concat('20000000000000000000000000000009','fleet@example.org')), '192.0.2.9', 0, 0, '', 0, 0, 0, ''),
 (10, 1700003110, 7, 1, 1700003110, 0, 0, 0,
  0, 'idle-pc', '[BOINC|7.24.1]', '192.0.2.10', 0, 0.9, 0.9, 0.9, 0, 1,
  4, 'GenuineIntel', 'Intel(R) Core(TM) i5-7500 CPU @ 3.40GHz [Family 6 Model 158 Stepping 9]', 4000000000, 12000000000, 1000000000, 'Linux Fedora', 'Fedora Linux 40',
  8589934592, 6291456, 0, 250000000000, 125000000000, 1000000000, 500000000, 100000000000,
  0, 0, 0, '', 0, 0,
  md5(concat('20000000000000000000000000000010','idle@example.org')), '192.0.2.10', 0, 0, '', 0, 0, 0, '');
