import time, resource
from dataclasses import replace
import numpy as np, pytest
from flwr.app import ConfigRecord, Array, ArrayRecord
from clients.deployment.desk import HospitalDesk
from clients.deployment.link import RUN_CONFIG
from fedmedpeft.exchange import *
from fedmedpeft.exchange import flower as wire
from fedmedpeft.config import RunConfig
def P(a,m):
    c=wire.encode(m); c[RUN_CONFIG]=ConfigRecord(a if isinstance(a,dict) else a.to_mapping()); return wire.pack(c)
def up(a,**k): return RunConfig.from_mapping(a.to_mapping()|{x.replace("_","-"):v for x,v in k.items()})
def visit1(desk,a,run="run"):
    j=wire.decode_join_reply(desk.answer("join",P(a,JoinRequest(run,True))))
    return VisitRequest(run,1,False,j.fingerprint,0.0,j.state)
def test_differencing(site_at, announced):
    with HospitalDesk.opened(site_at(policy={"smallest-count":5})) as d:
        for vf in (0.3,0.35,0.4,0.45):
            a=up(announced,val_fraction=vf, image_size=0)
            r=visit1(d,a,f"r{vf}")
            out=wire.decode_visit_reply(d.answer("visit",P(a,r)))
            print(vf,out.before["val"].samples,out.before["val"].counts) if out.before else print(vf,out.before)
def test_one_image(site_at, announced):
    with HospitalDesk.opened(site_at(policy={"smallest-count":5})) as d:
        a=up(announced,batch_size=1,local_steps=1); r=visit1(d,a)
        out=wire.decode_visit_reply(d.answer("visit",P(a,r))); print("ONE IMAGE", out.steps, out.samples)
def test_rate(site_at, announced):
    with HospitalDesk.opened(site_at()) as d:
        for rate in (1.0, 100.0):
            a=up(announced,learning_rate=rate,head_learning_rate=rate,warmup_fraction=0.0,schedule="constant",rounds=200,local_steps=1, inbound_factor=5.0); r=visit1(d,a,f"x{rate}")
            try:
                out=wire.decode_visit_reply(d.answer("visit",P(a,r)))
                far={p:v*0+np.float32(rate) for p,v in r.state.vectors.items()}
                print("far norm", sum(float((v**2).sum()) for v in far.values())**.5, "initial", sum(float((v**2).sum()) for v in r.state.vectors.values())**.5)
                o=d.answer("visit",P(a,replace(r,round=2,state=replace(r.state,vectors=far)))); print("ACCEPTED", rate)
            except SiteError as e: print(rate, e.code.name,e.reason)
def test_last(site_at, announced):
    with HospitalDesk.opened(site_at()) as d:
        a=up(announced,rounds=100); r=visit1(d,a)
        for k in (1,1,50,101): 
            try:
                o=wire.decode_visit_reply(d.answer("visit",P(a,replace(r,round=k,last=True)))); print("last",k,list(o.before))
            except SiteError as e: print(k,e.reason)
@pytest.mark.parametrize("m",["lora(rank=1000000000)","lora(rank=20000000)","vpt-deep(tokens=1000000)","peft:lora(r=20000000)","pfeiffer(bottleneck=20000000)","houlsby(reduction=0.0000001)","prefix(tokens=5000000)"])
def test_rank(site_at, announced,m):
    with HospitalDesk.opened(site_at()) as d:
        a=up(announced,method=m); t=time.time()
        try: print(m,len(P(a,JoinRequest("r",False)))); d.answer("join",P(a,JoinRequest("r",False))); print("OK?!")
        except SiteError as e: print(m,e.code.name,e.reason)
        print(time.time()-t, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6)
@pytest.mark.parametrize("key",["method","task","strategy","personal","run-name","backbone","client-privacy","privacy","knowledge", "data","partition","zzz"])
@pytest.mark.parametrize("kind", ["a*N","((((","a(b='","plus","a(b=c,d=e..)"])
def test_texts(site_at, announced,key,kind):
    n=1_000_000
    s={"a*N":"a"*n,"((((":"("*n,"a(b='":"a(b='"+"x'"*n,"plus":"a+"*20000,"a(b=c,d=e..)":"a("+",".join(f"b{i}=1" for i in range(100000))+")"}[kind]
    with HospitalDesk.opened(site_at()) as d:
        t=time.time()
        try: d.answer("join",P(announced.to_mapping()|{key:s},JoinRequest("r",False))); print("OK",key,kind)
        except SiteError as e: print(key,kind,e.code.name,e.reason[:100])
        if time.time()-t>1: print("SLOW",time.time()-t)
def test_arrays(site_at, announced):
    with HospitalDesk.opened(site_at()) as d:
        r=visit1(d,announced)
        import io,zipfile
        def ask(arrays):
            c=wire.encode(r); c["state"]=arrays; c[RUN_CONFIG]=ConfigRecord(announced.to_mapping())
            t=time.time()
            try: d.answer("visit",wire.pack(c)); print("OK!")
            except SiteError as e: print(e.code.name,e.reason)
            print(round(time.time()-t,1),resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6)
        b=io.BytesIO(); np.savez(b,x=np.zeros(3)); ask(ArrayRecord({"head":Array("float32",(3,),"numpy.ndarray",b.getvalue())}))
        b=io.BytesIO(); np.lib.format.write_array_header_1_0(b,{"descr":"<f4","fortran_order":False,"shape":(10**12,)}); ask(ArrayRecord({"head":Array("float32",(3,),"numpy.ndarray",b.getvalue())}))
        b=io.BytesIO(); np.lib.format.write_array_header_1_0(b,{"descr":"<f4","fortran_order":False,"shape":(10**9,)}); ask(ArrayRecord({"head":Array("float32",(3,),"numpy.ndarray",b.getvalue())}))
        for x in (np.array(["a\n"]),np.array([b"x"]),np.zeros(3,"M8[s]"),np.zeros(2,[("a","f4")]),np.zeros(3,"c16"),np.zeros((0,10**15)),np.zeros(100_000_000,"i1")):
            b=io.BytesIO(); np.save(b,x); ask(ArrayRecord({"head":Array(str(x.dtype),x.shape,"numpy.ndarray",b.getvalue())}))
