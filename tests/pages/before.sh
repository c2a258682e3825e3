# What a page takes for granted, for `scene.rs`: read before each command, by bash.
# shellcheck shell=bash

# The cluster of one host that most pages speak of, new.
one_host() {
  rm -rf /etc/kubernetes/* /etc/kubernetes/.certkit
  certkit --dir /etc/kubernetes init -q --name prod --host cp1=10.0.0.11 --endpoint api.prod.example.com:6443
  mkdir -p /var/log/kubernetes /var/lib/kubelet/pki
}

# kubeadm's, with its static pods, and certificates that have just been renewed.
kubeadm_host() {
  rm -rf /etc/kubernetes/* /etc/kubernetes/.certkit
  cp -r "$FIXTURES"/kubeadm-1.36/rsa-2048/. /etc/kubernetes
  cp -r "$FIXTURES"/kubeadm-1.36/manifests /etc/kubernetes
  rm /etc/kubernetes/kubeadm.yaml
  chmod 600 /etc/kubernetes/*.conf /etc/kubernetes/pki/*.key /etc/kubernetes/pki/etcd/*.key
  certkit --dir /etc/kubernetes rotate -q --all --new-key
  rm -rf /etc/kubernetes/.certkit
}

# The workspace in CERTKIT_DIR.
workspace() {
  certkit init -q --name prod --endpoint api.prod.example.com:6443 --host cp1=10.0.0.11 --host cp2=10.0.0.12 --host cp3=10.0.0.13
  certkit nodes add -q w1=10.0.1.1 w2=10.0.1.2
}

# A cluster that was made eleven years ago and then left alone: the CAs have ended, too.
expired() {
  rm -rf /etc/kubernetes/* /etc/kubernetes/.certkit
  faketime -f '-11y' certkit --dir /etc/kubernetes init -q --name prod --host cp1=10.0.0.11 --kubeconfig-style embedded
}

# TIME: from now on that is the time, for all that is run.
clock() {
  LD_PRELOAD=$(faketime now printenv LD_PRELOAD) FAKETIME=$1
  export LD_PRELOAD FAKETIME
}

# ADDRESS:PORT: whoever listens there ends, and the port is free.
silence() {
  local pid=$STAGE/listener-$1 tries=400
  [ -e "$pid" ] || return 0
  kill "$(cat "$pid")" 2>/dev/null
  rm "$pid"
  # It ends when it gets to it; the next one could not listen before.
  while certkit show "$1" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || return 1
    sleep 0.05
  done
}

# ADDRESS:PORT PID: waits until that one listens there.
listens() {
  local tries=400
  echo "$2" | tee "$STAGE/listener-$1" >>"$STAGE/listeners"
  until certkit show "$1" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || return 1
    sleep 0.05
  done
}

# A TLS listener at ADDRESS:PORT that shows the certificate pki/NAME.crt and asks clients for one of the cluster's CA.
serve() {
  local pki=/etc/kubernetes/pki trusted=/etc/kubernetes/pki/ca-bundle.crt
  [ -e $trusted ] || trusted=$pki/ca.crt
  silence "$1" || return
  timeout 600 openssl s_server -accept "$1" -cert "$pki/$2.crt" -key "$pki/$2.key" -CAfile "$trusted" -verify 1 -www \
    >/dev/null 2>&1 </dev/null &
  listens "$1" $!
}

# All that a control plane listens on.
serve_all() {
  local name
  for name in 127.0.0.1:6443=apiserver 127.0.0.1:2379=etcd/server 10.0.0.11:2380=etcd/peer 127.0.0.1:10257=controller-manager \
    127.0.0.1:10259=scheduler 127.0.0.1:10250=kubelet; do
    serve "${name%=*}" "${name#*=}"
  done
}

# CA FILE SUBJECT: a CA of somebody else's, its key beside it as KEY.
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "$2" -out "$1" -keyout "$3" 2>/dev/null
}

# FILE KEY SUBJECT CA CA-KEY: a certificate that it signed, for a year.
signed_by() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$3" -keyout "$2" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA "$4" -CAkey "$5" -set_serial "$RANDOM" -days 365 -out "$1" 2>/dev/null
  rm "$1.csr"
  chmod 600 "$2" "$5"
}

k3s_tree() {
  local tls=/var/lib/rancher/k3s/server/tls name
  rm -rf $tls
  mkdir -p $tls
  authority $tls/client-ca.crt /CN=k3s-client-ca $tls/client-ca.key
  for name in admin scheduler; do
    signed_by $tls/client-$name.crt $tls/client-$name.key "/O=system:masters/CN=system:$name" $tls/client-ca.crt $tls/client-ca.key
  done
}

kubespray_etcd() {
  mkdir -p /etc/ssl/etcd/ssl
  authority /etc/ssl/etcd/ssl/ca.pem /CN=etcd-ca /etc/ssl/etcd/ssl/ca-key.pem
  signed_by /etc/ssl/etcd/ssl/member-node1.pem /etc/ssl/etcd/ssl/member-node1-key.pem /CN=etcd-member-node1 /etc/ssl/etcd/ssl/ca.pem /etc/ssl/etcd/ssl/ca-key.pem
}

cfssl_tree() {
  mkdir -p ~/cfssl /media/usb
  cd ~/cfssl || return
  cp "$FIXTURES"/cfssl-1.6.5/*.pem .
  chmod 600 ./*-key.pem
  cp ca-key.pem /media/usb
}

easyrsa_tree() {
  mkdir -p ~/easyrsa/pki/issued ~/easyrsa/pki/private
  cd ~/easyrsa || return
  authority pki/ca.crt /CN=Easy-RSA pki/private/ca.key
  signed_by pki/issued/apiserver.crt pki/private/apiserver.key /CN=apiserver pki/ca.crt pki/private/ca.key
}

step_tree() {
  mkdir -p ~/step
  cd ~/step || return
  authority ca.crt /CN=Root ca.key
  signed_by apiserver.crt apiserver.key /CN=apiserver ca.crt ca.key
}

company_ca() {
  authority company-ca.crt /O=Example/CN=Company company-ca.key
}

# Three clusters: one that is well, one that ends soon, and a folder without one.
clusters() {
  mkdir -p /srv/clusters/east
  certkit --dir /srv/clusters/prod init -q --name prod --host cp1=10.0.0.11
  certkit --dir /srv/clusters/lab init -q --name lab --host cp1=10.0.0.11 --validity 3d
}

# What an apiserver has logged that nobody used for a while.
audit_log() {
  printf '{"requestReceivedTimestamp":"%s","user":{"username":"admin"},"sourceIPs":["10.0.0.9"],"userAgent":"kubectl"}\n' \
    2020-01-01T00:00:00.000000Z >/var/log/kubernetes/audit.log
}

# HOST: the certificate that its kubelet got through the certificates API, of the CA that issues now.
node_certificate() {
  local folder=$STAGE/hosts/$1/lib/kubelet/pki
  mkdir -p "$folder"
  signed_by "$folder/kubelet-client-current.pem" "$folder/key" "/O=system:nodes/CN=system:node:$1" /etc/kubernetes/pki/ca.crt /etc/kubernetes/pki/ca.key
}

# What etcd and the apiserver of each control-plane host in the workspace say of themselves: that they are well.
well() {
  local host address name port
  for name in "$STAGE"/listener-*; do
    [ ! -e "$name" ] || silence "${name#"$STAGE"/listener-}" || return
  done
  mkdir -p "$STAGE/answers"
  printf 'HTTP/1.0 200 OK\r\nContent-Length: 17\r\n\r\n{"health":"true"}' >"$STAGE/answers/health"
  printf 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok' >"$STAGE/answers/readyz"
  cd "$STAGE/answers" || return
  for host in cp1=10.0.0.11 cp2=10.0.0.12 cp3=10.0.0.13; do
    for name in etcd/server=2379 apiserver=6443; do
      address=${host#*=} port=${name#*=}
      local pki=$CERTKIT_DIR/hosts/${host%=*}/pki
      timeout 600 openssl s_server -accept "$address:$port" -cert "$pki/${name%=*}.crt" -key "$pki/${name%=*}.key" -HTTP -quiet \
        >/dev/null 2>&1 </dev/null &
      listens "$address:$port" $! || return
    done
  done
  cd - >/dev/null || return
}
